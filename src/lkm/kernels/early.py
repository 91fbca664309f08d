"""A package that is unpacked while it is on its way, and believed only when all of it is the right one.

What comes from a mirror is not verified before its last byte is there. So this is done in the sandbox in which
builds run, which shows neither the user's files nor the network, into a directory of its own; and the digest of
the very bytes that went in decides whether that directory counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from lkm import atomic, proc, sandbox
from lkm.kernels.apt import Package

__all__ = ["unpack"]

_CHUNK = 1 << 16
_LOOK = 0.05
"""How often it is looked whether more has come, in seconds."""
_ROOM = 4_000_000_000
"""Bytes by which the disk may fill up meanwhile: what is forged may be a bomb. A kernel takes a tenth."""
_TIMEOUT = 300.0
"""For what is left to unpack when the last byte is there, in seconds."""
_UNPACK = """
exec >/dev/null 2>&1
dpkg-deb --extract "$1" /into && chmod -R u-s,g-s /into
"""


def unpack(file: Path, package: Package, into: Path, root: Path, over: threading.Event) -> bool:
    """Unpacks `package`, whose `file` grows meanwhile, into the empty directory `into`; whether it may be used.

    `over` says that the file does not grow any more. `root` is a toolchain's, with dpkg-deb in it. Where it
    may not be used `into` is empty, and the caller unpacks the whole file: that tells of a full disk, too.
    """
    if _unpacked(file, package, into, root, over):
        return True
    atomic.remove(into)
    into.mkdir()
    return False


def _unpacked(file: Path, package: Package, into: Path, root: Path, over: threading.Event) -> bool:
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        with contextlib.ExitStack() as pipe:
            pipe.callback(os.close, writing)
            try:
                started = proc.stream(_argv(root, into, reading), pass_fds=[reading])
                process = stack.enter_context(started)
            finally:
                os.close(reading)
            right = _feed(writing, _coming(file, package.size, over), package.digest, into)
        return right and _ends_well(process)


def _feed(pipe: int, chunks: Iterable[bytes], digest: str, into: Path) -> bool:
    """Writes what comes to the pipe; whether it was what it should be, and has found room in `into`."""
    fed, free = hashlib.sha256(), _free(into)
    for chunk in chunks:
        fed.update(chunk)
        try:
            while chunk:
                chunk = chunk[os.write(pipe, chunk) :]
        except BrokenPipeError:
            return False
        if free - _free(into) > _ROOM:
            return False
    return f"SHA256:{fed.hexdigest()}" == digest


def _argv(root: Path, into: Path, reading: int) -> list[str]:
    command = ["/bin/sh", "-c", _UNPACK, "unpack", f"/dev/fd/{reading}"]
    return sandbox.argv(root, command, binds=[sandbox.Bind(into, "/into", writable=True)])


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _coming(path: Path, size: int, over: threading.Event) -> Iterator[bytes]:
    """The first `size` bytes of a file as they come; fewer where it ends before, or is replaced."""
    with contextlib.ExitStack() as stack:
        file = None
        while size:
            last = over.is_set()
            if file is None and path.exists():
                file = stack.enter_context(path.open("rb", buffering=0))
            if file and (chunk := file.read(min(size, _CHUNK))):
                size -= len(chunk)
                yield chunk
            elif last or (file and not path.exists()):
                return
            else:
                proc.Crew.check_mine()
                over.wait(_LOOK)


def _ends_well(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(_TIMEOUT) == 0
    except subprocess.TimeoutExpired:
        return False
