"""Signing with sign-file imitated: what goes to it, what comes of its answers, and what happens to the file."""

from __future__ import annotations

import errno
import gzip
import io
import json
import lzma
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from lkm import cli, ko, proc, signing
from lkm.arch import X86_64
from lkm.cli.render import Style
from lkm.cli.sign import _told
from lkm.end import End
from lkm.errors import HostError, LkmError, UsageError
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.ko.signature import split
from lkm.log import Record
from lkm.machine import Outcome
from lkm.signing import Key, Signed, signer
from lkm.verdict import reason_of_refusal

DATA = Path(__file__).parents[1] / "data" / "ko"
MODULE = (DATA / "everything-7.3.ko").read_bytes()
SIGNATURE = (DATA / "signature.bin").read_bytes()
EXPIRED = "notAfter=Jan  2 03:04:05 2020 GMT\nCertificate will expire"
VALID = "notAfter=Jan  2 03:04:05 2099 GMT\nCertificate will not expire"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel that signs with SHA-512, in a toolchain root that has openssl."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/openssl").touch()
    (tmp_path / "config").write_text('CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH="sha512"\n')
    tools = Toolchain("trixie", root, "gcc-14", "0")
    return Kernel(
        "6.12.1", X86_64, "debian", tmp_path / "image", "/usr/src/linux", (), tmp_path / "config", tools, "0"
    )  # fmt: skip


@pytest.fixture
def key(tmp_path: Path) -> Key:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "key.x509").write_text("-----BEGIN CERTIFICATE-----\n")
    return Key(tmp_path / "key.pem", tmp_path / "key.x509")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "drv.ko"
    path.parent.mkdir()
    path.write_bytes(MODULE)
    path.chmod(0o640)
    return path


class Programs:
    """Stands for proc.run: openssl answers `certificate`; sign-file signs, or fails with `fails`."""

    def __init__(self) -> None:
        self.certificate = VALID
        self.fails: tuple[int, str] | None = None
        self.argv: list[str] = []
        self.passphrase: str | None = None
        self.after: Callable[[], None] = lambda: None

    def run(self, argv: list[str], *, pass_fds: tuple[int, ...] = (), **_: object) -> proc.Finished:
        if "openssl" in argv:
            expired = "will expire" in self.certificate
            return proc.Finished(tuple(argv), int(expired), self.certificate, 0.0)
        self.argv = argv
        if pass_fds:
            self.passphrase = os.read(pass_fds[0], 4096).decode()
        if self.fails:
            return proc.Finished(tuple(argv), *self.fails, 0.0)
        work = Path(argv[argv.index("/lkm/work") - 1])
        (work / "signed.ko").write_bytes((work / "module.ko").read_bytes() + SIGNATURE)
        self.after()
        return proc.Finished(tuple(argv), 0, "", 0.0)


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.delenv("KBUILD_SIGN_PIN", raising=False)
    made = Programs()
    monkeypatch.setattr(proc, "run", made.run)
    monkeypatch.setattr("lkm.sandbox.check_usable", lambda root: None)
    return made


def alone(module: Path) -> bool:
    """Nothing lies about where the module is."""
    return [path.name for path in module.parent.iterdir()] == [module.name]


# What is done


def test_a_module_is_signed_in_place_and_keeps_its_mode(
    module: Path, kernel: Kernel, key: Key
) -> None:
    signed = signing.sign(module, kernel, key)
    assert module.read_bytes() == MODULE + SIGNATURE
    assert stat.S_IMODE(module.stat().st_mode) == 0o640
    assert (signed.replaced, signed.warnings) == (None, ())
    assert signed.signature == ko.read(module).signature
    assert alone(module)


def test_with_an_output_the_module_is_left_alone(module: Path, kernel: Kernel, key: Key) -> None:
    output = module.with_name("signed.ko")
    assert signing.sign(module, kernel, key, output=output).path == output
    assert (module.read_bytes(), output.read_bytes()) == (MODULE, MODULE + SIGNATURE)


@pytest.mark.parametrize("count", [1, 2])
def test_signatures_that_a_module_has_are_replaced(
    module: Path, kernel: Kernel, key: Key, count: int
) -> None:
    old = (DATA / "signature-key-id.bin").read_bytes()
    module.write_bytes(MODULE + old * count)
    signed = signing.sign(module, kernel, key)
    assert signed.replaced == split(MODULE + old)[1]
    assert module.read_bytes() == MODULE + SIGNATURE


def test_a_link_stays_one_and_what_it_leads_to_is_signed(
    module: Path, tmp_path: Path, kernel: Kernel, key: Key
) -> None:
    link = tmp_path / "link.ko"
    link.symlink_to(module)
    signing.sign(link, kernel, key)
    assert link.is_symlink()
    assert module.read_bytes() == MODULE + SIGNATURE


@pytest.mark.parametrize(
    ("config", "given", "used"),
    [
        ('CONFIG_MODULE_SIG_HASH="sha512"', None, "sha512"),
        ('CONFIG_MODULE_SIG_HASH="sha3-256"', None, "sha3-256"),
        ('CONFIG_MODULE_SIG_HASH="sha512"', "sha256", "sha256"),
        ("# CONFIG_MODULE_SIG is not set", None, "sha256"),
    ],
)
def test_the_hash_is_the_kernels_unless_one_is_given(
    module: Path, kernel: Kernel, key: Key, programs: Programs, config: str, given: str | None, used: str
) -> None:  # fmt: skip
    kernel.config.write_text(config + "\n")
    signed = signing.sign(module, kernel, key, digest=given)
    files = ["/lkm/key", "/lkm/certificate", "/lkm/work/module.ko", "/lkm/work/signed.ko"]
    assert programs.argv[-6:] == ["/usr/src/linux/scripts/sign-file", used, *files]
    assert any("CONFIG_MODULE_SIG" in line for line in signed.warnings) == ("not set" in config)


def test_an_expired_certificate_is_a_warning_with_its_date(
    module: Path, kernel: Kernel, key: Key, programs: Programs
) -> None:
    programs.certificate = EXPIRED
    (warning,) = signing.sign(module, kernel, key).warnings
    assert "Jan  2 03:04:05 2020 GMT" in warning


def test_a_passphrase_goes_through_a_pipe_and_never_onto_a_command_line(
    module: Path, kernel: Kernel, key: Key, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBUILD_SIGN_PIN", "open sesame")
    key.private.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    signing.sign(module, kernel, signing.key_of(key.private, key.certificate))
    assert programs.passphrase == "open sesame"
    assert not any("sesame" in word for word in programs.argv)


# What is refused


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "drv.ko"),
        (b"hello", "not ELF"),
        (MODULE[:4000], "drv.ko"),
        (SIGNATURE, "it is empty"),
        (lzma.compress(MODULE), "unxz"),
        (gzip.compress(MODULE), "gunzip"),
        (zstandard.compress(MODULE), "unzstd"),
        (gzip.compress(MODULE)[:-9], "damaged"),
    ],
)
def test_what_is_no_module_is_refused_and_left_as_it_is(
    module: Path, kernel: Kernel, key: Key, programs: Programs, content: bytes, says: str
) -> None:
    module.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        signing.sign(module, kernel, key)
    assert says in str(refused.value)
    assert programs.argv == []
    assert module.read_bytes() == content
    assert alone(module)


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda home: (home / "out").mkdir(), "out"),
        (lambda home: os.mkfifo(home / "out"), "out"),
        (lambda home: (home / "out").symlink_to("/dev/null"), "out"),
        (lambda home: None, "nowhere/out"),
    ],
    ids=["directory", "fifo", "device", "no directory"],
)
def test_an_output_that_is_no_file_is_refused(
    module: Path, kernel: Kernel, key: Key, make: Callable[[Path], None], output: str
) -> None:
    make(module.parent)
    with pytest.raises(UsageError, match=r"not a regular file|no such directory"):
        signing.sign(module, kernel, key, output=module.parent / output)
    assert module.read_bytes() == MODULE


OPENSSL_1_1 = """\
At main.c:320:
- SSL error:0B080074:x509 certificate routines:X509_check_private_key:key values mismatch: x509_cmp.c:303
- SSL error:2E066088:CMS routines:CMS_add1_signer:private key does not match certificate: cms_sd.c:250
sign-file: CMS_add1_signer: Success"""
OPENSSL_3 = """\
At main.c:324:
- SSL error:05800074:x509 certificate routines::key values mismatch: ../crypto/x509/x509_cmp.c:403
- SSL error:17000088:CMS routines::private key does not match certificate: ../crypto/cms/cms_sd.c:313
sign-file: CMS_add1_signer"""
NO_KEY_1_1 = """\
At main.c:170:
- SSL error:0909006C:PEM routines:get_name:no start line: ../crypto/pem/pem_lib.c:745
sign-file: /lkm/key: Success"""
NO_KEY_3 = """\
At main.c:174:
- SSL error:1E08010C:DECODER routines::unsupported: ../crypto/encode_decode/decoder_lib.c:103
sign-file: /lkm/key"""
WRONG_PASSPHRASE = """\
At main.c:174:
- SSL error:1C800064:Provider routines::bad decrypt: ciphercommon_block.c:124
- SSL error:11800074:PKCS12 routines::pkcs12 cipherfinal error: ../crypto/pkcs12/p12_decr.c:88
sign-file: /lkm/key"""

PLAIN = "-----BEGIN PRIVATE KEY-----\n"
PKCS8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
RFC1421 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"


@pytest.mark.parametrize(
    ("private", "fails", "kind", "says"),
    [
        (PLAIN, (1, OPENSSL_1_1), UsageError, "is not that of the certificate"),
        (PLAIN, (1, OPENSSL_3), UsageError, "CMS routines: private key does not match certificate"),
        (PLAIN, (1, NO_KEY_1_1), UsageError, "is not a private key in PEM"),
        (PLAIN, (1, NO_KEY_3), UsageError, "DECODER routines: unsupported"),
        (PKCS8, (1, WRONG_PASSPHRASE), UsageError, "KBUILD_SIGN_PIN is not the passphrase"),
        (RFC1421, (1, WRONG_PASSPHRASE), UsageError, "bad decrypt"),
        (PLAIN, (126, ""), UsageError, "has no scripts/sign-file"),
        (PLAIN, (1, "sign-file: /lkm/work/signed.ko"), HostError, "sign-file of 6.12.1 failed"),
        (PLAIN, (-9, ""), HostError, "sign-file of 6.12.1 failed"),
    ],
)
def test_why_sign_file_did_not_sign_is_told_in_the_users_terms(
    module: Path,
    kernel: Kernel,
    key: Key,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    private: str,
    fails: tuple[int, str],
    kind: type[LkmError],
    says: str,
) -> None:
    monkeypatch.setenv("KBUILD_SIGN_PIN", "x")
    key.private.write_text(private)
    programs.fails = fails
    with pytest.raises(kind) as refused:
        signing.sign(module, kernel, key)
    assert says in str(refused.value)
    assert module.read_bytes() == MODULE
    assert alone(module)


@pytest.mark.parametrize("said", ["unable to load certificate", "Could not read certificate"])
def test_what_is_no_certificate_is_refused(
    module: Path, kernel: Kernel, key: Key, programs: Programs, said: str
) -> None:
    programs.certificate = said
    with pytest.raises(UsageError, match=r"not an X\.509 certificate") as refused:
        signing.sign(module, kernel, key)
    assert refused.value.evidence == (said,)


def test_an_unknown_hash_is_refused_with_the_known_ones(
    module: Path, kernel: Kernel, key: Key
) -> None:
    with pytest.raises(UsageError) as refused:
        signing.sign(module, kernel, key, digest="md5")
    assert refused.value.hint is not None
    assert all(name in refused.value.hint for name in signing.HASHES)


# When it is interrupted, or there is no room


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_module_is_whole_and_alone_whatever_happens_while_it_is_written(
    module: Path,
    kernel: Kernel,
    key: Key,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    step: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"lkm.signing.signer.os.{step}", fail)
    with pytest.raises((HostError, KeyboardInterrupt)):
        signing.sign(module, kernel, key)
    assert module.read_bytes() == MODULE
    assert alone(module)


def test_a_scratch_directory_without_room_is_named(
    module: Path, kernel: Kernel, key: Key, programs: Programs
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    programs.after = full
    with pytest.raises(HostError, match="no space left on device") as refused:
        signing.sign(module, kernel, key)
    assert refused.value.hint is not None
    assert "TMPDIR" in refused.value.hint
    assert module.read_bytes() == MODULE


def test_what_sign_file_left_is_looked_at(
    module: Path, kernel: Kernel, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signer, "_sign_file", lambda image, *_: image)
    with pytest.raises(HostError, match="no signature"):
        signing.sign(module, kernel, key)
    assert module.read_bytes() == MODULE


# The command line


@pytest.mark.parametrize("option", ["--key", "--cert"])
def test_a_key_without_a_certificate_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], module: Path, option: str
) -> None:
    assert cli.main(["sign", str(module), option, "x"]) == 2
    assert "hint: give both" in capsys.readouterr().err
    assert module.read_bytes() == MODULE


@pytest.fixture
def signed(module: Path, kernel: Kernel, key: Key) -> Signed:
    return signing.sign(module, kernel, key)


def test_the_document_survives_json(signed: Signed) -> None:
    document = signed.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert (document["key_id"], document["replaced"]) == (signed.signature.key_id, False)


def test_a_new_key_is_explained_at_length_and_an_old_one_in_a_line(signed: Signed) -> None:
    style = Style(io.StringIO())
    new = list(_told(replace(signed, key=replace(signed.key, made=True)), style, is_ours=True))
    old = list(_told(signed, style, is_ours=True))
    assert new[0] == f"made a development key: {signed.key.private}"
    assert "  Loading of module with unavailable key is rejected" in new
    for lines, line in ((new, new[-2]), (old, old[1])):
        assert f"sudo mokutil --import {signed.key.certificate}" in line, lines
    assert len(old) == 2


def test_what_was_replaced_and_what_may_surprise_is_told(signed: Signed) -> None:
    odd = replace(signed, replaced=signed.signature, warnings=("it is odd",))
    lines = list(_told(odd, Style(io.StringIO()), is_ours=False))
    assert "in place of the signature that it had" in lines[0]
    assert lines[1:] == ["warning: it is odd"]


# What a refusal is called


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            ["Loading of unsigned module is rejected"],
            "insmod: EKEYREJECTED: Loading of unsigned module is rejected",
        ),
        (
            [
                "PKCS7: Unknown OID: [32] 1.2",
                "Loading of module with unsupported crypto is rejected",
            ],
            "insmod: EKEYREJECTED: Loading of module with unsupported crypto is rejected",
        ),
        ([], "insmod: EKEYREJECTED: its content is not what was signed"),
    ],
)
def test_a_kernel_that_refuses_a_signature_is_quoted_and_lkm_sign_is_the_hint(
    said: list[str], reason: str
) -> None:
    records = tuple(Record(seq, 0.0, "notice", 0, text) for seq, text in enumerate(said))
    outcome = Outcome(End.DONE, errno.EKEYREJECTED, records, 0.1)
    told, hint = reason_of_refusal("hello", outcome)
    assert told == reason
    assert hint is not None
    assert "lkm sign" in hint
