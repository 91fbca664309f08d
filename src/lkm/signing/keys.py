"""Keys to sign modules with: the caller's, and a development key that is made once."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from lkm import atomic, paths, proc, sandbox
from lkm.errors import HostError, UsageError
from lkm.kernels.kernel import Toolchain
from lkm.progress import SILENT, Progress
from lkm.sandbox import Bind

__all__ = ["PASSPHRASE", "Key", "development_key", "expiry", "key_of"]

PASSPHRASE = "KBUILD_SIGN_PIN"
"""The environment variable that sign-file takes a key's passphrase from (scripts/sign-file.c)."""

_TIMEOUT = 60.0
_DIRECTORY, _CERTIFICATE = "/lkm/key", "/lkm/certificate"


@dataclass(frozen=True)
class Key:
    """A private key (PEM) and its certificate (X.509, PEM or DER); one file may hold both.

    `made` says that they were made by the call that gave this.
    """

    private: Path
    certificate: Path
    made: bool = False

    @property
    def has_passphrase(self) -> bool:
        """Whether the private key is encrypted: PKCS#8's label, or the header of RFC 1421."""
        return b"ENCRYPTED" in self.private.read_bytes()


def key_of(private: Path, certificate: Path) -> Key:
    """A key of the caller's, by absolute paths.

    Raises UsageError for a file that is not there, or not readable without root's privilege, and for a key with
    a passphrase where $KBUILD_SIGN_PIN is not set.
    """
    for path in (private, certificate):
        if not path.is_file():
            raise UsageError(
                f"no such file: {path}", hint="lkm sign FILE.ko, without --key, makes a key"
            )
        if not os.access(path, os.R_OK):
            raise UsageError(f"{path} is not readable by you", hint=f"ls -l {quoted(path)}")
        if _needs_privilege(path):
            raise UsageError(
                f"{path} is readable by its owner alone, and sign-file runs without root's privilege",
                hint=f"sign as its owner, or: chown root {quoted(path)}",
            )
    key = Key(private.absolute(), certificate.absolute())
    if key.has_passphrase and PASSPHRASE not in os.environ:
        raise UsageError(f"the key {private} has a passphrase", hint=f"set {PASSPHRASE} to it")
    return key


def _needs_privilege(path: Path) -> bool:
    status = path.stat()
    return os.geteuid() == 0 != status.st_uid and not status.st_mode & stat.S_IROTH


_REQUEST = """\
[req]
prompt = no
utf8 = yes
string_mask = utf8only
distinguished_name = name
x509_extensions = extensions
[name]
CN = lkm development key
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = codeSigning, 1.3.6.1.4.1.2312.16.1.2
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
"""What certs/default_x509.genkey asks for (Linux 5.10 to 7.3), and the use: code. The last identifier says
that it is modules alone; shim starts nothing that such a key signed (MODSIGN_EKU, since shim 15)."""

_MAKE = """\
umask 077; cd "$0" || exit
openssl req -new -x509 -config request -newkey rsa:2048 -nodes -sha256 -days 3650 \\
    -keyout lkm-dev.pem -outform DER -out lkm-dev.der && rm request
"""


def development_key(toolchain: Toolchain, *, progress: Progress = SILENT) -> Key:
    """The user's own key for modules, made the first time: RSA 2048, `lkm-dev.pem` (mode 0600), `lkm-dev.der`.

    Two processes that want it make it once. Raises HostError where its directory cannot be written to, and
    where one of the two files is gone.
    """
    home = paths.data_dir() / "signing"
    if home.exists():
        return _existing(home)
    _check_writable(home.parent)
    with atomic.exclusive(home, "the development key", progress=progress):
        atomic.sweep(home.parent)
        if home.exists():
            return _existing(home)
        progress.step("making a development key")
        with atomic.making(home, "the development key") as partial:
            partial.chmod(0o700)
            _make(partial, toolchain)
    return _existing(home, made=True)


def _existing(home: Path, *, made: bool = False) -> Key:
    key = Key(home / "lkm-dev.pem", home / "lkm-dev.der", made)
    for path in (key.private, key.certificate):
        if not path.is_file():
            raise HostError(
                f"the development key is not whole: {path} is missing",
                hint=f"for another key: mv {quoted(home)} {quoted(home)}.old",
            )
    return key


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = None if os.access(directory, os.W_OK | os.X_OK) else "not writable by you"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise HostError(
            f"there is no place for a development key: {directory}: {reason.lower()}",
            hint="set LKM_DATA_DIR to a directory of yours, or give --key and --cert",
        )


def _make(directory: Path, toolchain: Toolchain) -> None:
    (directory / "request").write_text(_REQUEST)
    root = _root_with_openssl(toolchain)
    command = ["/bin/sh", "-c", _MAKE, _DIRECTORY]
    done = proc.run(
        sandbox.argv(root, command, binds=[Bind(directory, _DIRECTORY, writable=True)]),
        stage="making a development key",
        timeout=_TIMEOUT,
    )
    if done.returncode:
        sandbox.check_usable(root)
        raise HostError("openssl made no key", evidence=done.output.splitlines()[-6:])


def expiry(key: Key, toolchain: Toolchain) -> str | None:
    """The date on which the certificate expired, as openssl writes it; None where it has not.

    Raises UsageError for a file that is no certificate.
    """
    root = _root_with_openssl(toolchain)
    form = "DER" if _is_der(key.certificate) else "PEM"
    command = [
        "openssl", "x509", "-in", _CERTIFICATE, "-inform", form, "-noout", "-enddate", "-checkend", "0",
    ]  # fmt: skip
    done = proc.run(
        sandbox.argv(root, command, binds=[Bind(key.certificate, _CERTIFICATE)]),
        stage="reading the certificate",
        timeout=_TIMEOUT,
    )
    ends = re.search(r"^notAfter=(.*)$", done.output, re.MULTILINE)
    if ends is None:
        sandbox.check_usable(root)
        raise UsageError(
            f"{key.certificate} is not an X.509 certificate in PEM or DER",
            evidence=done.output.replace(_CERTIFICATE, str(key.certificate)).splitlines()[:1],
            hint="--cert takes what `openssl req -x509` makes, or a kernel's certs/signing_key.x509",
        )
    return ends[1] if done.returncode else None


def _is_der(path: Path) -> bool:
    """As sign-file tells them apart: by the tag and the length's form."""
    with path.open("rb") as file:
        head = file.read(2)
    return head[:1] == b"\x30" and head[1:] in (b"\x81", b"\x82", b"\x83", b"\x84")


def _root_with_openssl(toolchain: Toolchain) -> Path:
    if (toolchain.root / "usr/bin/openssl").exists():
        return toolchain.root
    proc.find_tool("openssl")
    return Path("/")


def quoted(path: Path) -> str:
    """A path as a shell takes it, for hints."""
    return shlex.quote(str(path))
