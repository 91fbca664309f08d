"""Modules signed by real sign-files, and what a real kernel says to them before and after it knows the key."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.modinfo_kmod import FORMS, differing
from bench.signed_kernel import Modules, Seen, guest, make_modules, tried

from lkm import ko, proc, sandbox
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.sandbox import Bind

pytestmark = pytest.mark.vm

UNVERIFIED = (
    "hello: module verification failed: signature and/or required key missing - tainting kernel"
)
NO_KEY = ("Loading of module with unavailable key is rejected",)
UNSIGNED = ("Loading of unsigned module is rejected",)
REFUSED = "EKEYREJECTED"


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return store.get()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing")


@pytest.fixture(scope="module")
def modules(kernel: Kernel, home: Path) -> Modules:
    """Files of `hello`; the keys are below `home`/keys."""
    return make_modules(kernel.release, home, home / "keys")


@pytest.fixture
def unsigned(modules: Modules, tmp_path: Path) -> Path:
    return Path(shutil.copy(modules.unsigned, tmp_path / "hello.ko"))


def test_a_kernel_that_does_not_know_the_key_says_so_and_takes_the_module(
    lkm: Any, modules: Modules
) -> None:
    done = lkm("run", "--json", str(modules.ours))
    (module,) = json.loads(done.stdout)["modules"]
    assert module["verdict"] == "ok"
    assert UNVERIFIED in [record["text"] for record in module["log"]]


@pytest.mark.usefixtures("runtime_dir")
def test_a_kernel_that_does_not_know_the_key_taints_itself_and_refuses_where_that_is_enforced(
    kernel: Kernel, modules: Modules
) -> None:
    with guest(kernel.release) as running:
        seen = tried(running, modules)
    assert UNVERIFIED in seen.pop("our key").said
    assert seen == {
        "altered": Seen(None, "OE", ()),
        "another key": Seen(None, "OE", ()),
        "unsigned": Seen(None, "OE", ()),
        "our key, enforced": Seen(REFUSED, None, NO_KEY),
        "altered, enforced": Seen(REFUSED, None, NO_KEY),
        "another key, enforced": Seen(REFUSED, None, NO_KEY),
        "unsigned, enforced": Seen(REFUSED, None, UNSIGNED),
    }


@pytest.mark.usefixtures("runtime_dir")
@pytest.mark.parametrize("keyring", [".builtin_trusted_keys", ".platform"])
def test_a_kernel_whose_keyring_holds_the_key_takes_the_module_and_no_other(
    kernel: Kernel, modules: Modules, keyring: str
) -> None:
    with guest(kernel.release) as running:
        running.trust(modules.certificate, keyring)
        seen = tried(running, modules)
    assert seen == {
        "our key": Seen(None, "O", ()),
        "altered": Seen(REFUSED, None, ()),
        "another key": Seen(None, "OE", ()),
        "unsigned": Seen(None, "OE", ()),
        "our key, enforced": Seen(None, "O", ()),
        "altered, enforced": Seen(REFUSED, None, ()),
        "another key, enforced": Seen(REFUSED, None, NO_KEY),
        "unsigned, enforced": Seen(REFUSED, None, UNSIGNED),
    }


@pytest.mark.parametrize("flags", FORMS, ids=lambda flags: " ".join(flags) or "no flags")
def test_kmods_modinfo_shows_the_signature_as_ours_does(
    kernel: Kernel, modules: Modules, home: Path, flags: tuple[str, ...]
) -> None:
    signature = ko.read(modules.ours).signature
    assert signature is not None
    assert (signature.id_type, signature.signer) == ("PKCS#7", "lkm development key")
    assert (signature.hash, signature.algorithm) == ("sha256", "rsa")
    assert not differing(kernel.toolchain, home, [modules.ours, modules.others], flags)


def test_the_development_key_is_made_once_by_processes_that_want_it_at_once(
    unsigned: Path, tmp_path: Path
) -> None:
    files = [shutil.copy(unsigned, tmp_path / f"{number}.ko") for number in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "lkm", "sign", "--json", str(file)],
            env={**os.environ, "LKM_DATA_DIR": str(tmp_path / "data")},
            stdout=subprocess.PIPE,
        )
        for file in files
    ]
    documents = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(document["key_made"] for document in documents) == [False, False, False, True]
    assert len({document["key_id"] for document in documents}) == 1
    directory = tmp_path / "data" / "signing"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"lkm-dev.pem": 0o600, "lkm-dev.der": 0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.fixture(scope="module")
def keys(kernel: Kernel, modules: Modules, home: Path) -> Path:
    """a.pem with its certificate in DER and PEM, the same with a passphrase, and b.pem of another."""
    directory = home / "pairs"
    directory.mkdir()
    for name, owner in (("a", "ours"), ("b", "others")):
        for suffix in ("pem", "der"):
            source = home / "keys" / owner / "signing" / f"lkm-dev.{suffix}"
            shutil.copy(source, directory / f"{name}.{suffix}")
    (directory / "nonsense").write_text("nonsense\n")
    script = (
        "openssl x509 -inform DER -in a.der -out a.x509 &&"
        " openssl pkcs8 -topk8 -in a.pem -out pkcs8.pem -passout pass:sesame &&"
        " openssl rsa -aes128 -in a.pem -out rfc1421.pem -passout pass:sesame &&"
        " openssl pkey -in a.pem -outform DER -out key.der"
    )
    done = proc.run(
        sandbox.argv(
            kernel.toolchain.root,
            ["/bin/sh", "-c", script],
            binds=[Bind(directory, "/lkm/keys", writable=True)],
            cwd="/lkm/keys",
        ),
        stage="keys",
        timeout=60,
    )
    assert done.returncode == 0, done.output
    return directory


@pytest.mark.parametrize(
    ("key", "certificate", "passphrase", "says"),
    [
        ("a.pem", "a.der", None, "signed "),
        ("a.pem", "a.x509", None, "signed "),
        ("pkcs8.pem", "a.der", "sesame", "signed "),
        ("pkcs8.pem", "a.der", None, "has a passphrase"),
        ("pkcs8.pem", "a.der", "sesam", "KBUILD_SIGN_PIN is not the passphrase"),
        ("rfc1421.pem", "a.der", "sesam", "KBUILD_SIGN_PIN is not the passphrase"),
        ("a.pem", "b.der", None, "is not that of the certificate"),
        ("nonsense", "a.der", None, "is not a private key in PEM"),
        ("key.der", "a.der", None, "is not a private key in PEM"),
        ("a.pem", "nonsense", None, "is not an X.509 certificate"),
        ("a.pem", "missing", None, "no such file"),
    ],
)
def test_real_keys_are_taken_or_refused_by_what_they_are(
    lkm: Any,
    keys: Path,
    unsigned: Path,
    key: str,
    certificate: str,
    passphrase: str | None,
    says: str,
) -> None:
    before = unsigned.read_bytes()
    done = lkm(
        "sign", str(unsigned), "--key", str(keys / key), "--cert", str(keys / certificate),
        env={"KBUILD_SIGN_PIN": passphrase} if passphrase else None,
    )  # fmt: skip
    assert says in done.stdout + done.stderr
    assert done.returncode == (0 if says == "signed " else 2)
    assert (ko.read(unsigned).signature is not None) == (says == "signed ")
    assert unsigned.read_bytes().startswith(before)
    assert "/lkm/" not in done.stdout + done.stderr
    assert [path.name for path in unsigned.parent.iterdir()] == [unsigned.name]
