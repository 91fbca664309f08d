"""A small signed archive: a suite with one kernel of two flavours, for the loopback mirror."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from lkm.kernels import apt, debian

__all__ = ["CLOUD", "IMAGE_BYTES", "RT", "Archive", "depmod", "fetch", "image_of", "put_tools"]

VERSION = "6.12.1-1"
CLOUD, RT = "6.12.1-cloud-amd64", "6.12.1-rt-amd64"
IMAGE_BYTES = 3_000_000
"""What each image package has at least: it cannot be compressed."""


def image_of(release: str) -> str:
    """The file name of a kernel's image package."""
    return f"linux-image-{release}_{VERSION}_amd64.deb"


@dataclass
class Archive:
    """The files of the archive by their paths; `keyring` is what its signature is verified with."""

    directory: Path
    files: dict[str, bytes] = field(default_factory=dict)
    suite: str = "trixie"

    def __post_init__(self) -> None:
        self._entries: list[str] = []
        self._gnupg = Path(tempfile.mkdtemp(prefix="lkm-gpg-"))
        self._gpg("--quick-gen-key", "lkm test", "ed25519", "sign", "never")
        self.keyring = self.directory / "keyring.gpg"
        self.keyring.write_bytes(self._gpg("--export"))
        for release in (CLOUD, RT):
            self._add_kernel(release)
        self.add(
            "linux-headers-6.12.1-common",
            {"usr/src/linux-headers-6.12.1-common/Makefile": b"all:\n"},
        )
        self.add("linux-kbuild-6.12.1", {"usr/lib/linux-kbuild-6.12.1/scripts/x": b"x\n"})
        self.add("gcc-14-for-host", {})
        self.publish()

    def close(self) -> None:
        """End gpg's agent."""
        subprocess.run(["gpgconf", "--homedir", self._gnupg, "--kill", "all"], check=False)
        shutil.rmtree(self._gnupg, ignore_errors=True)

    def find(self, path: str) -> bytes | None:
        """For the mirror."""
        return self.files.get(path)

    def path_of(self, deb: str) -> str:
        """Where a package file is."""
        return f"pool/{deb}"

    def publish(self) -> None:
        """The lists, signed, of what is there now."""
        index = "\n".join(self._entries).encode()
        name = "main/binary-amd64/Packages"
        release = (
            f"Origin: Debian\nSuite: {self.suite}\nCodename: {self.suite}\nDate: {formatdate(usegmt=True)}\n"
            f"Architectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(index).hexdigest()} {len(index)} {name}\n"
        )
        (self.directory / "Release").write_text(release)
        home = f"dists/{self.suite}"
        self.files[f"{home}/{name}"] = index
        self.files[f"{home}/InRelease"] = self._gpg(
            "--clearsign", "-o", "-", self.directory / "Release"
        )

    def withdraw(self, deb: str) -> None:
        """The archive has a file no more, but its lists still do."""
        del self.files[self.path_of(deb)]

    def forget(self, release: str) -> None:
        """New lists that do not have a kernel."""
        self._entries = [entry for entry in self._entries if f"-{release}\n" not in entry]
        self.publish()

    def _add_kernel(self, release: str) -> None:
        modules = f"usr/lib/modules/{release}"
        self.add(
            f"linux-image-{release}",
            {
                f"boot/vmlinuz-{release}": random.Random(release).randbytes(IMAGE_BYTES),
                f"boot/config-{release}": b"CONFIG_MODULES=y\n",
                f"{modules}/modules.builtin": b"",
                f"{modules}/kernel/a.ko": b"\x7fELF",
                "usr/share/doc/linux/copyright": b"doc",
            },
        )
        self.add(
            f"linux-headers-{release}",
            {f"usr/src/linux-headers-{release}/Makefile": b"all:\n"},
            depends="linux-headers-6.12.1-common, linux-kbuild-6.12.1, gcc-14-for-host",
        )

    def add(
        self, name: str, content: dict[str, bytes], depends: str = "", section: str = "kernel"
    ) -> None:
        """One package more, which the next `publish` lists."""
        root = self.directory / name
        (root / "DEBIAN").mkdir(parents=True)
        fields = (
            f"Package: {name}\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: lkm <lkm@example.org>\n"
            f"{f'Depends: {depends}' if depends else 'Priority: optional'}\nSection: {section}\n"
            f"Description: test\n"
        )
        (root / "DEBIAN/control").write_text(fields)
        for path, body in content.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(body)
        deb = f"{name}_{VERSION}_amd64.deb"
        out = self.directory / deb
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "-b", root, out],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        body = out.read_bytes()
        shutil.rmtree(root)
        self.files[self.path_of(deb)] = body
        digest = hashlib.sha256(body).hexdigest()
        self._entries.append(
            f"{fields}Filename: {self.path_of(deb)}\nSize: {len(body)}\nSHA256: {digest}\n"
        )

    def _gpg(self, *words: str | Path) -> bytes:
        quiet = [
            "--batch",
            "--quiet",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        return subprocess.run(
            ["gpg", "--homedir", self._gnupg, *quiet, *words],
            check=True,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout


def put_tools(root: Path) -> None:
    """This computer's dpkg-deb, and what it runs, as a toolchain has them: enough to unpack in the sandbox."""
    files = {shutil.which(name) or name for name in ("sh", "dpkg-deb", "tar", "chmod")}
    for program in sorted(files):
        needed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
        files.update(re.findall(r"(?:=> |^\s+)(/\S+) \(", needed.stdout, re.MULTILINE))
    for file in files:
        there = root / "usr" / file.removeprefix("/usr").lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")


def depmod(partial: Path, release: str, _: object) -> None:
    """Without the toolchain, whose root is a quarter of a gigabyte: the real one is tried in tests/vm."""
    (partial / "lib").symlink_to("usr/lib")
    (partial / "lib/modules" / release / "modules.dep").write_text("kernel/a.ko:\n")


def fetch(keyring: str) -> int:
    """`lkm kernel fetch` of both kernels, in a process of its own."""
    from lkm.cli import main

    apt.keyring = lambda: Path(keyring)
    debian.depmod = depmod  # type: ignore[assignment]
    return main(["kernel", "fetch", "6.12", "6.12-rt"])
