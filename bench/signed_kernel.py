"""What a kernel that knows the key says to signed modules: one that is built for it, or Debian's own.

    python -m bench.signed_kernel [DIRECTORY] [--source TREE] [--jobs N]
    python -m bench.signed_kernel [DIRECTORY] --stock 6.12

The first form makes a development key, builds the smallest kernel that can be a guest with its certificate in
CONFIG_SYSTEM_TRUSTED_KEYS, and tries modules on it. It takes 8 minutes with one job and 2 GB of disk, and
needs flex, bison, bc, libelf-dev and libssl-dev. The second takes a stock kernel, one of whose keyrings gets
the certificate from a module, tests/data/modules/trust_key.c, and needs seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lkm.kernels import store

ROOT = Path(__file__).parents[1]
HELLO = ROOT / "examples" / "hello"
TRUST_KEY = ROOT / "tests" / "data" / "modules" / "trust_key.c"
FRAGMENT = """\
CONFIG_MODULE_SIG=y
# CONFIG_MODULE_SIG_ALL is not set
CONFIG_MODULE_SIG_SHA256=y
CONFIG_MODULE_SIG_KEY=""
CONFIG_SYSTEM_TRUSTED_KEYS="{certificate}"
# CONFIG_DEBUG_INFO is not set
CONFIG_DEBUG_INFO_NONE=y
"""
OWN = ("hello: init", "hello: exit")
"""The module's own lines."""
ABOUT = re.compile(r"hello: |Loading of |PKCS7: |Module hash ")
"""What else the kernel says of a module and its signature, among all that it says."""
RINGS = (".builtin_trusted_keys", ".platform", ".machine")
"""The keyrings that may vouch for a module; Debian's kernels ask the second one, too."""


def lkm(*words: str | Path, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`lkm WORDS...` to its end; `data` is where its development key is."""
    return subprocess.run(
        [sys.executable, "-m", "lkm", *map(str, words)],
        env={**os.environ, **({"LKM_DATA_DIR": str(data)} if data else {})},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )


def output_of(*words: str | Path, data: Path | None = None) -> str:
    """What `lkm WORDS...` prints."""
    done = lkm(*words, data=data)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Seen:
    """What became of an insmod: its errno, the module's taint flags, and the kernel's lines about it."""

    errno: str | None
    taint: str | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class Modules:
    """Files of one module: unsigned, by our key, by another, and changed after our key signed it."""

    unsigned: Path
    ours: Path
    others: Path
    altered: Path
    certificate: Path


def make_modules(kernel: str, home: Path, keys: Path) -> Modules:
    """The sample `hello`, built and signed for a kernel, below `home`; the two keys are made where missing."""
    output_of("build", "-k", kernel, "-o", home / "build", HELLO)
    (unsigned,) = (home / "build").glob("*/hello.ko")
    made = {}
    for name in ("ours", "others"):
        words = ("sign", "--json", "-k", kernel, unsigned, "-o", home / f"{name}.ko")
        made[name] = json.loads(output_of(*words, data=keys / name))
    altered = home / "altered.ko"
    image = (home / "ours.ko").read_bytes()
    assert b"hello module" in image
    altered.write_bytes(image.replace(b"hello module", b"jello module"))
    certificate = Path(made["ours"]["certificate"])
    return Modules(unsigned, home / "ours.ko", home / "others.ko", altered, certificate)


class Guest:
    """A machine that is up."""

    def __init__(self, kernel: str) -> None:
        self.name = f"signed-{os.getpid()}"
        output_of("up", "-k", kernel, self.name)
        self.records = len(self.log())

    def down(self) -> None:
        output_of("down", self.name)

    def sh(self, script: str) -> str:
        return output_of("sh", "-m", self.name, "--", "sh", "-c", script)

    def log(self) -> list[str]:
        records = json.loads(output_of("dmesg", "-m", self.name, "--json"))["records"]
        return [record["text"] for record in records]

    def enforce(self) -> None:
        """From now on no module without a valid signature (kernel/module/signing.c)."""
        self.sh("echo 1 >/sys/module/module/parameters/sig_enforce")

    def keyrings(self) -> dict[str, int]:
        """The kernel's keyrings and their serial numbers."""
        found = re.findall(r"^(\w+) .* keyring +(\.\w+):", self.sh("cat /proc/keys"), re.MULTILINE)
        return {name: int(serial, 16) for serial, name in found}

    def trust(self, certificate: Path, keyring: str) -> None:
        """Have a module put the certificate into one of the kernel's keyrings."""
        words = ",".join(map(str, certificate.read_bytes()))
        serial = f"keyring={self.keyrings()[keyring]}"
        output_of("insmod", "-m", self.name, TRUST_KEY, serial, f"certificate={words}")
        self.records = len(self.log())

    def load(self, path: Path) -> Seen:
        """Load and unload a file of the module."""
        done = lkm("insmod", "-m", self.name, path)
        errno = re.search(r"failed: (\w+)", done.stderr)
        assert errno or done.returncode == 0, done.stderr
        log = self.log()
        said = tuple(line for line in log[self.records :] if ABOUT.match(line) and line not in OWN)
        self.records = len(log)
        if errno:
            return Seen(errno[1], None, said)
        taint = self.sh("cat /sys/module/hello/taint").strip()
        output_of("rmmod", "-m", self.name, "hello")
        return Seen(None, taint, said)


@contextmanager
def guest(kernel: str) -> Iterator[Guest]:
    """A machine, put down in the end."""
    running = Guest(kernel)
    try:
        yield running
    finally:
        running.down()


def tried(running: Guest, modules: Modules) -> dict[str, Seen]:
    """Each file without and with enforcement, ours first: the kernel says once a boot that one failed."""
    files = {
        "our key": modules.ours,
        "altered": modules.altered,
        "another key": modules.others,
        "unsigned": modules.unsigned,
    }
    seen = {name: running.load(path) for name, path in files.items()}
    running.enforce()
    seen |= {f"{name}, enforced": running.load(path) for name, path in files.items()}
    return seen


def shown(title: str, seen: dict[str, Seen]) -> None:
    """Print what was seen."""
    print(f"{title}\n  {'module':<22} {'insmod':<14} {'taint':<6} the kernel's lines")
    for name, each in seen.items():
        lines = [*each.said] or [""]
        print(f"  {name:<22} {each.errno or 'ok':<14} {each.taint or '-':<6} {lines[0]}")
        for line in lines[1:]:
            print(f"  {'':<44} {line}")


def run(*argv: str | Path, cwd: Path) -> None:
    """A step of the kernel's build."""
    print(f"+ {' '.join(map(str, argv))}", file=sys.stderr, flush=True)
    subprocess.run(list(map(str, argv)), cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def fetched(directory: Path) -> Path:
    """Debian's kernel source, from the package that this computer's apt knows."""
    tree = directory / "source"
    if not (tree / "Kconfig").exists():
        tree.mkdir(exist_ok=True)
        found = subprocess.run(
            ["apt-cache", "depends", "linux-source"], capture_output=True, text=True, check=True
        )
        name = re.findall(r"Depends: (linux-source-\S+)", found.stdout)[0]
        run("apt-get", "download", name, cwd=directory)
        (package,) = directory.glob(f"{name}_*.deb")
        run("dpkg-deb", "--extract", package, directory / "package", cwd=directory)
        (archive,) = directory.glob("package/usr/src/linux-source-*.tar.xz")
        run("tar", "--extract", "--strip-components=1", "--file", archive, cwd=tree)
    return tree


def build_kernel(source: Path, directory: Path, certificate: Path, jobs: int) -> Path:
    """A kernel that knows the certificate (DER): the build tree of it."""
    tree = directory / "tree"
    tree.mkdir(exist_ok=True)
    pem = directory / "certificate.pem"
    run("openssl", "x509", "-inform", "DER", "-in", certificate, "-out", pem, cwd=directory)
    fragment = directory / "signed.config"
    fragment.write_text(FRAGMENT.format(certificate=pem))
    run("make", "-C", source, f"O={tree}", "tinyconfig", cwd=directory)
    parts = [ROOT / "docs" / "how-to" / "kernel-tree.config", fragment]
    run(source / "scripts/kconfig/merge_config.sh", "-m", "-O", tree, ".config", *parts, cwd=tree)
    run("make", "olddefconfig", cwd=tree)
    run("nice", "make", f"--jobs={jobs}", "bzImage", "modules", cwd=tree)
    return tree


def built(directory: Path, source: Path | None, jobs: int) -> None:
    """Build the kernel, and try the modules on it."""
    keys = directory / "keys"
    certificate = make_modules(store.get().release, directory / "first", keys).certificate
    tree = build_kernel(source or fetched(directory), directory, certificate, jobs)
    kernel = f"tree:{tree}"
    modules = make_modules(kernel, directory / "second", keys)
    with guest(kernel) as running:
        shown(f"{kernel}, which was built with the certificate", tried(running, modules))


def stock(directory: Path, kernel: str) -> None:
    """Try the modules on a stock kernel, for each keyring that may hold the key of a module."""
    modules = make_modules(kernel, directory / "stock", directory / "keys")
    with guest(kernel) as running:
        shown(f"{kernel}, which does not know the key", tried(running, modules))
        rings = [name for name in RINGS if name in running.keyrings()]
    for ring in rings:
        with guest(kernel) as running:
            running.trust(modules.certificate, ring)
            shown(f"{kernel} with the certificate in {ring}", tried(running, modules))


def main() -> int:
    """Build or take a kernel, try, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "directory", nargs="?", type=Path, default=Path("/var/tmp/lkm-signed-kernel")
    )
    parser.add_argument("--source", type=Path, help="a kernel source, instead of Debian's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stock", metavar="K", help="no building: this kernel")
    arguments = parser.parse_args()
    directory = arguments.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    if arguments.stock:
        stock(directory, arguments.stock)
    else:
        built(directory, arguments.source, arguments.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
