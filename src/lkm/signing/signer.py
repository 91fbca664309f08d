"""Signing a module with the kernel's own scripts/sign-file."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import atomic, ko, proc, sandbox
from lkm.errors import HostError, LkmError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.ko.signature import Signature, split
from lkm.sandbox import Bind
from lkm.signing.keys import PASSPHRASE, Key, expiry, quoted

__all__ = ["HASHES", "Signed", "hash_of", "sign"]

HASHES = (
    "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512",
)  # fmt: skip
"""What CONFIG_MODULE_SIG_HASH may be in some kernel from 5.10 to 7.3 (kernel/module/Kconfig)."""

_TIMEOUT = 60.0
_KEY, _CERTIFICATE, _WORK = "/lkm/key", "/lkm/certificate", "/lkm/work"
_UNPACKERS = {b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd", b"\x1f\x8b": "gunzip"}


@dataclass(frozen=True)
class Signed:
    """A module that was signed: the file that now has the signature, and what is in it.

    `kernel` is the release whose sign-file made it, `replaced` the signature that the module had
    before; `warnings` are lines about what may surprise.
    """

    path: Path
    kernel: str
    key: Key
    signature: Signature
    replaced: Signature | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The document that `lkm sign --json` prints."""
        return {
            "schema": 1,
            "path": str(self.path),
            "kernel": self.kernel,
            "hash": self.signature.hash,
            "signer": self.signature.signer,
            "key_id": self.signature.key_id,
            "key": str(self.key.private),
            "certificate": str(self.key.certificate),
            "key_made": self.key.made,
            "replaced": self.replaced is not None,
            "warnings": list(self.warnings),
        }


def hash_of(kernel: Kernel) -> str | None:
    """CONFIG_MODULE_SIG_HASH of a kernel; None where it reads no signatures (CONFIG_MODULE_SIG)."""
    text = kernel.config.read_text(errors="replace")
    found = re.search(r'^CONFIG_MODULE_SIG_HASH="([\w-]+)"$', text, re.MULTILINE)
    return found[1] if found else None


def sign(
    path: Path, kernel: Kernel, key: Key, *, digest: str | None = None, output: Path | None = None
) -> Signed:
    """Sign the module at `path` in place, or into `output`, for `kernel`; `digest` is one of HASHES.

    A signature that it has is replaced. The file is whole at any time, the old one or the new one. Raises
    UsageError for what is no module, a compressed one, and a key or certificate that does not do;
    HostError where the result cannot be written.
    """
    target = _target(output or path)
    image, replaced = _unsigned(path)
    digest, warnings = _digest(kernel, digest)
    if ended := expiry(key, kernel.toolchain):
        warnings.append(
            f"the certificate {key.certificate} expired on {ended}; kernels do not look at that"
        )
    signed = _sign_file(image, kernel, key, digest)
    bare, signature = split(signed)
    if signature is None or bare != image:
        raise HostError(f"{kernel.release}'s sign-file left no signature that can be read")
    _replace(target, signed, like=path.stat())
    return Signed(output or path, kernel.release, key, signature, replaced, tuple(warnings))


def _target(path: Path) -> Path:
    """Where the result goes: what a link leads to. Only a regular file is replaced."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UsageError(f"{path} is not a regular file", hint="lkm sign FILE.ko -o OUT.ko")
    if not target.parent.is_dir():
        raise UsageError(
            f"no such directory: {target.parent}", hint=f"mkdir -p {quoted(target.parent)}"
        )
    return target


def _unsigned(path: Path) -> tuple[bytes, Signature | None]:
    """The module's bytes without any signature at their end, and the one that the kernel would read."""
    data = ko.read_image(path)
    with path.open("rb") as file:
        head = file.read(8)
    for magic, unpack in _UNPACKERS.items():
        if head.startswith(magic):
            raise UsageError(
                f"{path} is compressed, and a signature goes inside",
                hint=f"{unpack} {quoted(path)}, sign what that gives, and compress it again",
            )
    ko.parse(data, path.name)
    image, last = split(data)
    found = last
    while found:
        image, found = split(image)
    return image, last


def _digest(kernel: Kernel, digest: str | None) -> tuple[str, list[str]]:
    if digest and digest not in HASHES:
        raise UsageError(
            f"no kernel signs with {digest!r}", hint=f"it is one of {', '.join(HASHES)}"
        )
    configured = hash_of(kernel)
    warnings = []
    if configured is None:
        warnings.append(f"{kernel.release} reads no signatures: it lacks CONFIG_MODULE_SIG")
    return digest or configured or "sha256", warnings


_SCRIPT = """\
[ -x "$2" ] || exit 126
[ "$1" = - ] || { KBUILD_SIGN_PIN=$(cat "/proc/self/fd/$1") && export KBUILD_SIGN_PIN; }
shift; exec "$@"
"""
"""The passphrase comes through a pipe: command lines are everybody's to read."""


def _sign_file(image: bytes, kernel: Kernel, key: Key, digest: str) -> bytes:
    program = f"{kernel.build_dir}/scripts/sign-file"
    binds = [Bind(host, inside) for host, inside in kernel.binds]
    binds += [Bind(key.private, _KEY), Bind(key.certificate, _CERTIFICATE)]
    files = [_KEY, _CERTIFICATE, f"{_WORK}/module.ko", f"{_WORK}/signed.ko"]
    with _scratch() as scratch, _passphrase() as pipe:
        (scratch / "module.ko").write_bytes(image)
        words = ["/bin/sh", "-c", _SCRIPT, "sh", pipe or "-", program, digest, *files]
        done = proc.run(
            sandbox.argv(
                kernel.toolchain.root, words, binds=[*binds, Bind(scratch, _WORK, writable=True)]
            ),
            stage=f"sign-file of {kernel.release}",
            timeout=_TIMEOUT,
            pass_fds=[int(pipe)] if pipe else [],
        )
        if done.returncode:
            sandbox.check_usable(kernel.toolchain.root)
            raise _refusal(kernel, key, done)
        return (scratch / "signed.ko").read_bytes()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="lkm-sign-") as path:
            yield Path(path)
    except OSError as error:
        place = tempfile.gettempdir()
        raise HostError(
            f"cannot write to {place}: {(error.strerror or str(error)).lower()}",
            hint="set TMPDIR to a directory with room",
        ) from error


@contextlib.contextmanager
def _passphrase() -> Iterator[str]:
    """The number of a descriptor from which the passphrase can be read; empty where there is none."""
    phrase = os.environ.get(PASSPHRASE)
    if phrase is None:
        yield ""
        return
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as file:
            file.write(os.fsencode(phrase)[:4096])
        yield str(reading)
    finally:
        os.close(reading)


def _refusal(kernel: Kernel, key: Key, done: proc.Finished) -> LkmError:
    """Why sign-file did not sign, from its words and OpenSSL's (1.1.1 to 3.5)."""
    said = _reasons(done.output.replace(f"{_WORK}/", ""))
    if done.returncode == 126:
        return UsageError(
            f"{kernel.release} has no scripts/sign-file: it was built without CONFIG_MODULE_SIG",
            hint="lkm sign FILE.ko -k 6.12, which makes the same signatures",
        )
    if "private key does not match certificate" in done.output:
        return UsageError(
            f"the key {key.private} is not that of the certificate {key.certificate}",
            evidence=said,
            hint=f"compare: openssl pkey -in {quoted(key.private)} -pubout;"
            f" openssl x509 -in {quoted(key.certificate)} -noout -pubkey",
        )
    if f"sign-file: {_KEY}" not in done.output:
        return HostError(f"sign-file of {kernel.release} failed", evidence=said)
    if key.has_passphrase:
        return UsageError(
            f"{PASSPHRASE} is not the passphrase of {key.private}",
            evidence=said,
            hint=f"try it: openssl pkey -in {quoted(key.private)} -noout",
        )
    return UsageError(
        f"{key.private} is not a private key in PEM",
        evidence=said,
        hint=f"if it is one in DER: openssl pkey -inform DER -in {quoted(key.private)} -out key.pem",
    )


def _reasons(output: str) -> list[str]:
    """OpenSSL's reasons, from `- SSL error:NUMBER:LIBRARY:FUNCTION:REASON: FILE:LINE`; else the last lines."""
    found = re.findall(r"^- SSL error:\w+:([^:]*):[^:]*:([^:]*)", output, re.MULTILINE)
    reasons = dict.fromkeys(f"{library}: {reason}" for library, reason in found)
    return list(reasons) or output.splitlines()[-4:]


def _replace(target: Path, data: bytes, *, like: os.stat_result) -> None:
    """`target` with new content, and the mode and owner of `like`, by one rename."""
    try:
        with atomic.replacing(target) as fresh, fresh.open("xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HostError(
            f"cannot write {target}: {(error.strerror or str(error)).lower()}",
            hint="lkm sign FILE.ko -o OUT.ko, with OUT.ko elsewhere",
        ) from error
