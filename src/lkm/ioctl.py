"""Numbers of ioctl requests, as _IO, _IOR, _IOW and _IOWR make them (include/uapi/asm-generic/ioctl.h).

A size is that of the argument, in bytes, or a struct format: `IOR("S", 3, "i")` is `_IOR('S', 3, int)`.
"""

from __future__ import annotations

import struct

__all__ = ["IO", "IOR", "IOW", "IOWR"]

_NUMBER_BITS, _TYPE_BITS, _SIZE_BITS = 8, 8, 14
_NONE, _WRITE, _READ = 0, 1, 2


def IO(kind: str | int, number: int) -> int:  # noqa: N802 - the macro's name
    """_IO(kind, number): a request without an argument. Raises ValueError for what does not fit."""
    return _request(_NONE, kind, number, 0)


def IOR(kind: str | int, number: int, size: int | str) -> int:  # noqa: N802
    """_IOR(kind, number, type): the driver fills in the argument. Raises ValueError for what does not fit."""
    return _request(_READ, kind, number, size)


def IOW(kind: str | int, number: int, size: int | str) -> int:  # noqa: N802
    """_IOW(kind, number, type): the driver reads the argument. Raises ValueError for what does not fit."""
    return _request(_WRITE, kind, number, size)


def IOWR(kind: str | int, number: int, size: int | str) -> int:  # noqa: N802
    """_IOWR(kind, number, type): both. Raises ValueError for what does not fit."""
    return _request(_READ | _WRITE, kind, number, size)


def _request(direction: int, kind: str | int, number: int, size: int | str) -> int:
    letter = ord(kind) if isinstance(kind, str) and len(kind) == 1 else kind
    amount = struct.calcsize(size) if isinstance(size, str) else size
    if not isinstance(letter, int) or not 0 <= letter < 1 << _TYPE_BITS:
        raise ValueError(f"the type of an ioctl is a letter or 0 to 255, not {kind!r}")
    if not 0 <= number < 1 << _NUMBER_BITS or not 0 <= amount < 1 << _SIZE_BITS:
        raise ValueError(f"number {number} and size {amount} of an ioctl: 0 to 255, and 0 to 16383")
    shift = _NUMBER_BITS + _TYPE_BITS
    return direction << shift + _SIZE_BITS | amount << shift | letter << _NUMBER_BITS | number
