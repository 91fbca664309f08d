"""Files that may be compressed: xz, zstd and gzip, known by their first bytes, with a bound. Pure."""

from __future__ import annotations

import io
import stat
from typing import TYPE_CHECKING, Protocol

from lkm.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIMIT", "decompress", "read_file"]

LIMIT = 512 << 20
"""Bytes that a file may unpack to; the largest module of a distribution with its DWARF has about 400 MB."""

_ALWAYS = 32 << 20
_RATIO = 64
"""A file may unpack to _ALWAYS bytes, or to _RATIO times its own; Debian's modules have up to 30 MB."""

_MEMORY = 128 << 20
"""What a decompressor may use for its window; the kernel's own build needs 1 MiB (xz) to 128 MiB (zstd)."""

_CHUNK = 1 << 20


def read_file(path: Path, *, limit: int = LIMIT) -> bytes:
    """The file's bytes, decompressed where it is compressed.

    Raises UsageError where it is missing, unreadable, not a regular file, damaged or too large.
    """
    try:
        # Asked before opening: a FIFO would wait for a writer.
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        with path.open("rb") if regular else io.BytesIO() as file:
            # Python sets aside what is asked for, and a small computer has no 512 MiB.
            data = file.read(min(limit, status.st_size) + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot read {path}: {reason.lower()}") from error
    except ValueError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error}") from error
    if not regular:
        raise UsageError(f"cannot read {path}: it is not a regular file")
    return decompress(data, path.name, limit=limit)


def decompress(data: bytes, name: str, *, limit: int = LIMIT) -> bytes:
    """`data` as it was before xz, zstd or gzip; as it is where none of them made it.

    Raises UsageError for data that is damaged, cut off, or unpacks to more than `limit` bytes, or to more than
    32 MiB and 64 times its size.
    """
    for magic, kind, unpack in _FORMATS:
        if data.startswith(magic):
            limit = min(limit, max(_ALWAYS, _RATIO * len(data)))
            try:
                data = unpack(data, limit)
            except _Damaged as error:
                raise UsageError(
                    f"{name} is damaged: {kind} says {error}", hint="copy or compress it again"
                ) from error
            break
    if len(data) > limit:
        raise UsageError(f"{name} is larger than {limit >> 20} MiB when unpacked")
    return data


class _Damaged(Exception):
    """What the decompressor said; never leaves this module."""


def _unxz(data: bytes, limit: int) -> bytes:
    import lzma

    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        unpacked = unpacker.decompress(data, max_length=limit + 1)
    except (lzma.LZMAError, MemoryError) as error:
        raise _Damaged(str(error) or "out of memory") from error
    if not unpacker.eof and len(unpacked) <= limit:
        raise _Damaged("the data ends early")
    return unpacked


def _gunzip(data: bytes, limit: int) -> bytes:
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return _drain(stream, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise _Damaged(str(error)) from error


def _unzstd(data: bytes, limit: int) -> bytes:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
    try:
        with unpacker.stream_reader(io.BytesIO(data)) as stream:
            return _drain(stream, limit)
    except zstandard.ZstdError as error:
        raise _Damaged(str(error)) from error


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _drain(stream: _Readable, limit: int) -> bytes:
    """What the stream has, up to the first byte over the limit or a little more."""
    found = io.BytesIO()
    while found.tell() <= limit and (chunk := stream.read(_CHUNK)):
        found.write(chunk)
    return found.getvalue()


_FORMATS = (
    (b"\xfd7zXZ\0", "xz", _unxz),
    (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
    (b"\x1f\x8b", "gzip", _gunzip),
)
