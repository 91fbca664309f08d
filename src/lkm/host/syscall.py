"""A program of its own: one system call of insmod or rmmod, so that lkm can outlive it.

`syscall.py load FD` calls init_module(2) with what the file FD holds (u32 length of the arguments, arguments,
object), `syscall.py unload NAME` delete_module(2). It prints the errno, 0 for success, and the nanoseconds that
the call took. It imports nothing of lkm, and is run with `python -I -S`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable


def _load(libc: ctypes.CDLL, fd: str) -> Callable[[], int]:
    with os.fdopen(int(fd), "rb") as file:
        file.seek(0)
        (length,) = struct.unpack("<I", file.read(4))
        arguments = file.read(length)
        image = file.read()
    return lambda: int(libc.init_module(image, ctypes.c_ulong(len(image)), arguments))


def _unload(libc: ctypes.CDLL, name: str) -> Callable[[], int]:
    # As kmod: a module that is in use is refused (EWOULDBLOCK), not waited for.
    return lambda: int(libc.delete_module(os.fsencode(name), os.O_NONBLOCK))


def _main(verb: str, what: str) -> None:
    # No header declares the two functions, and glibc and musl export them all the same.
    libc = ctypes.CDLL(None, use_errno=True)
    call = {"load": _load, "unload": _unload}[verb](libc, what)
    started = time.monotonic_ns()
    result = call()
    spent = time.monotonic_ns() - started
    os.write(1, f"{ctypes.get_errno() if result else 0} {spent}\n".encode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
