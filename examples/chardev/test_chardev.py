"""The tests of chardev.ko: pytest examples/chardev"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import lkm

Insmod = Callable[..., lkm.Module]

DEVICE = "/dev/chardev"
# chardev.h, as _IOR, _IOW and _IO of asm-generic/ioctl.h make numbers of it.
GET_SIZE = 2 << 30 | 8 << 16 | ord("l") << 8 | 1
SET_SIZE = 1 << 30 | 8 << 16 | ord("l") << 8 | 2
RESET = ord("l") << 8 | 3


@pytest.fixture(autouse=True)
def chardev(insmod: Insmod) -> lkm.Module:
    return insmod(capacity=8192)


def device(vm: lkm.VM, mode: str = "r+b", **options: Any) -> lkm.GuestFile:
    """Open it without a buffer between: each call here is one system call there."""
    opened: lkm.GuestFile = vm.open(DEVICE, mode, buffering=0, **options)
    return opened


def until_waits(vm: lkm.VM, reader: lkm.GuestProcess) -> None:
    """Return when the program sleeps in the driver's read."""
    while "chardev_read" not in vm.path(f"/proc/{reader.pid}/stack").read_text():
        assert reader.poll() is None


def test_reads_back_what_was_written(vm: lkm.VM) -> None:
    with device(vm) as dev:
        assert dev.write(b"hello") == 5
        dev.seek(1)
        assert dev.read(100) == b"ello"


def test_each_reader_has_a_position_of_its_own(vm: lkm.VM) -> None:
    with device(vm) as writer, device(vm, "rb") as one, device(vm, "rb") as two:
        writer.write(b"hello")
        assert one.read(2) == b"he"
        assert two.read(5) == b"hello"
        assert one.read(3) == b"llo"


def test_two_readers_wait_and_both_get_the_data(vm: lkm.VM) -> None:
    with (
        vm.start(["head", "-c", "5", DEVICE]) as one,
        vm.start(["head", "-c", "5", DEVICE]) as two,
    ):
        until_waits(vm, one)
        until_waits(vm, two)
        vm.path(DEVICE).write_text("hello")
        assert one.stdout.read() == two.stdout.read() == b"hello"


def test_many_may_read_and_write_at_once(vm: lkm.VM) -> None:
    def write_and_read(letter: int) -> bytes:
        with device(vm) as dev:
            for at in range(letter, 1024, 8):
                dev.pwrite(bytes([letter]), at)
            return bytes(dev.pread(1024, 0)[letter::8])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write_and_read, range(8))) == [bytes([i]) * 128 for i in range(8)]


def test_a_signal_ends_a_reader_that_waits(vm: lkm.VM) -> None:
    with vm.start(["cat", DEVICE]) as reader:
        until_waits(vm, reader)
        reader.terminate()
        assert reader.wait() == -signal.SIGTERM


def test_a_reader_who_will_not_wait_gets_nothing(vm: lkm.VM) -> None:
    with device(vm, flags=os.O_NONBLOCK) as dev:
        assert dev.read(1) is None
        dev.pwrite(b"x", 0)
        assert dev.read(1) == b"x"


def test_poll_tells_when_there_is_something_to_read(vm: lkm.VM) -> None:
    with device(vm) as dev:
        assert dev.poll(select.POLLIN | select.POLLOUT) == select.POLLOUT
        assert dev.poll(select.POLLIN, timeout=2) == 0
        dev.pwrite(b"x", 0)
        assert dev.poll(select.POLLIN, timeout=2) == select.POLLIN


def test_a_full_device_takes_no_more_and_ends(vm: lkm.VM) -> None:
    with device(vm) as dev:
        assert dev.write(b"x" * 10_000) == 8192
        with pytest.raises(OSError, match="No space") as refused:
            dev.write(b"x")
        assert refused.value.errno == errno.ENOSPC
        assert dev.read(1) == b""
        with pytest.raises(OSError, match="Invalid"):
            dev.seek(8193)


def test_size_can_be_asked_for_and_set(vm: lkm.VM) -> None:
    with device(vm) as dev:
        assert dev.ioctl(GET_SIZE, bytes(8)) == struct.pack("Q", 8192)
        dev.write(b"hello")
        dev.ioctl(SET_SIZE, struct.pack("Q", 4))
        assert dev.pread(100, 0) == b"hell"
        dev.ioctl(RESET)
        assert dev.seek(0, os.SEEK_END) == 0


@pytest.mark.parametrize(
    ("request_", "argument", "error"),
    [
        (SET_SIZE, struct.pack("Q", 0), errno.EINVAL),
        (SET_SIZE, struct.pack("Q", 8193), errno.EINVAL),
        (SET_SIZE, 0, errno.EFAULT),
        (GET_SIZE, 0, errno.EFAULT),
        (RESET + 1, 0, errno.ENOTTY),
    ],
)
def test_a_bad_ioctl_is_refused(
    vm: lkm.VM, request_: int, argument: bytes | int, error: int
) -> None:
    with device(vm) as dev:
        with pytest.raises(OSError, match=os.strerror(error)):
            dev.ioctl(request_, argument)
        assert dev.ioctl(GET_SIZE, bytes(8)) == struct.pack("Q", 8192)


def test_a_mapping_is_the_same_memory(vm: lkm.VM) -> None:
    with device(vm) as dev, dev.mmap(8192) as memory:
        dev.write(b"hello")
        assert memory[:5] == b"hello"
        memory[4:6] = b"!?"
        assert dev.pread(100, 0) == b"hell!"
        with device(vm) as other, pytest.raises(OSError, match="Invalid"):
            other.mmap(8192, offset=4096)


def test_the_shell_can_use_it(vm: lkm.VM) -> None:
    script = f"echo one > {DEVICE}; echo two >> {DEVICE}; head -n 2 {DEVICE}"
    assert vm.run(["sh", "-c", script], user=1000).check().text == "one\ntwo\n"
    assert vm.run(["sh", "-c", f"echo three > {DEVICE}; head -n 1 {DEVICE}"]).text == "three\n"


def test_stays_loaded_while_it_is_open(vm: lkm.VM, chardev: lkm.Module) -> None:
    with device(vm):
        assert chardev.refcount == 1
        with pytest.raises(lkm.UnloadError):
            chardev.rmmod()
    chardev.rmmod()
    assert not vm.path(DEVICE).exists()


@pytest.mark.parametrize("capacity", [0, 16 * 1024 * 1024 + 1])
def test_a_capacity_out_of_range_is_refused(
    vm: lkm.VM, chardev: lkm.Module, insmod: Insmod, capacity: int
) -> None:
    chardev.rmmod()
    with pytest.raises(lkm.LoadError, match="is not between 1 and 16777216") as refused:
        insmod(capacity=capacity)
    assert refused.value.errno == errno.EINVAL
    assert not vm.path(DEVICE).exists()
