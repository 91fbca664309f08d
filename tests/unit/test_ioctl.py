"""lkm.ioctl against numbers of the kernel's own headers."""

from __future__ import annotations

import pytest

from lkm.ioctl import IO, IOR, IOW, IOWR


@pytest.mark.parametrize(
    ("made", "known"),
    [
        (IO("V", 0x2C), 0x562C),
        (IO(0x12, 96), 0x1260),  # BLKGETSIZE, linux/fs.h
        (IOR(0x12, 114, 8), 0x80081272),  # BLKGETSIZE64
        (IOR("T", 0x30, "I"), 0x80045430),  # TIOCGPTN, asm-generic/ioctls.h
        (IOW("T", 0x31, "i"), 0x40045431),  # TIOCSPTLCK
        (IOWR("U", 0, 24), 0xC0185500),  # USBDEVFS_CONTROL, linux/usbdevice_fs.h, 64 bits
        (IOWR("V", 0, 104), 0xC0685600),
    ],
)
def test_a_request_is_the_number_of_the_kernels_header(made: int, known: int) -> None:
    assert made == known


@pytest.mark.parametrize(
    ("kind", "number", "size"), [("UU", 1, 0), (256, 1, 0), ("U", 256, 0), ("U", 1, 1 << 14)]
)
def test_what_does_not_fit_is_refused(kind: str | int, number: int, size: int) -> None:
    with pytest.raises(ValueError, match="of an ioctl"):
        IOR(kind, number, size)
