"""The guest's files from Python: what open(), io and mmap promise, with the guest's errno."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import stat
import struct
from collections.abc import Callable, Iterator
from itertools import count

import pytest

import lkm

pytestmark = pytest.mark.vm

# asm-generic/ioctls.h and linux/random.h
TIOCGWINSZ, FIONREAD, RNDADDTOENTCNT = 0x5413, 0x541B, 0x40045201
NUMBERS = count()


@pytest.fixture(scope="module", params=[None, "5.10"], ids=["default", "5.10"])
def vm(request: pytest.FixtureRequest) -> Iterator[lkm.VM]:
    """A machine for all tests here; each uses names of its own."""
    with lkm.kernel(request.param).machine() as running:
        yield running


@pytest.fixture
def home(vm: lkm.VM) -> lkm.GuestPath:
    """An empty directory."""
    directory = vm.path(f"/tmp/{next(NUMBERS)}")
    directory.mkdir()
    return directory


def test_a_raw_file_is_one_system_call_a_method(vm: lkm.VM, home: lkm.GuestPath) -> None:
    with vm.open(home / "f", "x+b", buffering=0) as file:
        assert isinstance(file, lkm.GuestFile)
        assert file.write(b"0123456789") == 10
        assert file.tell() == 10
        assert file.read(5) == b""
        assert file.seek(-3, os.SEEK_END) == 7
        assert file.read(5) == b"789"
        assert file.pread(3, 2) == b"234"
        assert file.pwrite(b"ab", 0) == 2
        assert file.tell() == 10
        file.seek(0)
        assert file.readall() == b"ab23456789"
        assert (file.readable(), file.writable(), file.seekable()) == (True, True, True)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()


def test_a_read_returns_what_there_is(vm: lkm.VM, home: lkm.GuestPath) -> None:
    vm.run(["mkfifo", str(home / "fifo")]).check()
    with vm.open(home / "fifo", "r+b", buffering=0) as fifo:
        fifo.write(b"abc")
        assert fifo.read(100) == b"abc"
        assert not fifo.seekable()
        with pytest.raises(OSError, match="Illegal seek"):
            fifo.seek(0)


def test_text_is_decoded_and_split_into_lines(vm: lkm.VM, home: lkm.GuestPath) -> None:
    with vm.open(home / "text", "w") as file:
        file.write("eins\nzwei ä\n")
    with vm.open(home / "text", "a", encoding="utf-8") as file:
        print("drei", file=file)
    with vm.open(home / "text") as file:
        assert list(file) == ["eins\n", "zwei ä\n", "drei\n"]
    with vm.open(home / "text", "rb") as file:
        assert (file.readline(), file.read()) == (b"eins\n", "zwei ä\ndrei\n".encode())
    with vm.open(home / "text", "r+", buffering=1) as file:
        file.write("EINS\n")
        assert (home / "text").read_text().startswith("EINS\nzwei")


def test_more_than_a_frame_goes_through_whole(vm: lkm.VM, home: lkm.GuestPath) -> None:
    data = os.urandom(1 << 20)
    with vm.open(home / "big", "w+b") as file:
        file.write(data)
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize(
    ("path", "mode", "error"),
    [
        ("/nowhere/x", "rb", FileNotFoundError),
        ("/proc", "rb+", IsADirectoryError),
        ("/proc/version/x", "rb", NotADirectoryError),
        ("/init", "xb", FileExistsError),
        ("/sys/kernel/new", "xb", PermissionError),
    ],
)
def test_open_fails_with_the_guests_errno(
    vm: lkm.VM, path: str, mode: str, error: type[OSError]
) -> None:
    with pytest.raises(OSError, match=path) as failed:
        vm.open(path, mode).close()
    assert isinstance(failed.value, error)
    assert failed.value.filename == path


@pytest.mark.parametrize("mode", ["", "rw", "z", "rr", "rbt"])
def test_a_mode_that_there_is_not_is_the_callers_mistake(vm: lkm.VM, mode: str) -> None:
    with pytest.raises(lkm.UsageError, match="no mode to open a file"):
        vm.open("/proc/version", mode)
    with pytest.raises(lkm.UsageError, match="only a binary file"):
        vm.open("/proc/version", "r", buffering=0)


def test_reading_what_is_open_for_writing_is_refused(vm: lkm.VM, home: lkm.GuestPath) -> None:
    with vm.open(home / "f", "wb", buffering=0) as file:
        assert not file.readable()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            file.read(1)


def test_append_writes_at_the_end_whoever_wrote_before(vm: lkm.VM, home: lkm.GuestPath) -> None:
    with (
        vm.open(home / "f", "ab", buffering=0) as one,
        vm.open(home / "f", "ab", buffering=0) as two,
    ):
        one.write(b"1")
        two.write(b"2")
        one.write(b"3")
    assert (home / "f").read_bytes() == b"123"


def test_what_would_block_is_none(vm: lkm.VM, home: lkm.GuestPath) -> None:
    vm.run(["mkfifo", str(home / "fifo")]).check()
    with vm.open(home / "fifo", "r+b", buffering=0, flags=os.O_NONBLOCK) as fifo:
        assert fifo.read(1) is None
        taken = 0
        while size := fifo.write(bytes(4096)):
            taken += size
        assert size is None
        assert taken == 65536


def test_ioctl_takes_numbers_and_buffers(vm: lkm.VM, home: lkm.GuestPath) -> None:
    vm.run(["mkfifo", str(home / "fifo")]).check()
    with vm.open(home / "fifo", "r+b", buffering=0) as fifo:
        fifo.write(b"abc")
        assert fifo.ioctl(FIONREAD, bytes(4)) == struct.pack("i", 3)
        waiting = bytearray(4)
        assert fifo.ioctl(FIONREAD, waiting) == 0
        assert waiting == struct.pack("i", 3)
        with pytest.raises(OSError, match=r"Inappropriate ioctl for device \(ioctl 0x5413\)"):
            fifo.ioctl(TIOCGWINSZ, bytes(8))
        with pytest.raises(io.UnsupportedOperation, match=r"use its own ioctl\(\)"):
            fcntl.ioctl(fifo, FIONREAD)
    with pytest.raises(lkm.UsageError, match=r"cannot seek(.|\n)*buffering=0"):
        vm.open(home / "fifo", "r+b")
    with vm.open("/dev/random", "wb", buffering=0) as random:
        assert random.ioctl(RNDADDTOENTCNT, struct.pack("i", 0)) == struct.pack("i", 0)
        with pytest.raises(OSError, match="Bad address"):
            random.ioctl(RNDADDTOENTCNT, 0)


def test_no_file_is_made_where_a_driver_makes_devices(vm: lkm.VM) -> None:
    for path in ("/dev/upper", "/dev/input/upper"):
        with pytest.raises(FileNotFoundError, match=path):
            vm.path(path).write_text("x")
        for mode in ("w", "a", "w+b"):
            with pytest.raises(FileNotFoundError, match=path):
                vm.open(path, mode)
    with vm.open("/dev/made", "x") as file:
        file.write("asked for")
    assert vm.path("/dev/made").read_text() == "asked for"
    vm.path("/dev/shm").mkdir(exist_ok=True)
    vm.path("/dev/shm/file").write_text("x")


def test_poll_waits_in_the_guests_time(vm: lkm.VM, home: lkm.GuestPath) -> None:
    vm.run(["mkfifo", str(home / "fifo")]).check()
    with vm.open(home / "fifo", "r+b", buffering=0) as fifo:
        before = float(vm.path("/proc/uptime").read_text().split()[0])
        assert fifo.poll(select.POLLIN, timeout=3.0) == 0
        after = float(vm.path("/proc/uptime").read_text().split()[0])
        assert after - before >= 2.98
        fifo.write(b"x")
        assert fifo.poll(select.POLLIN | select.POLLOUT, None) == select.POLLIN | select.POLLOUT


def test_a_mapping_is_read_and_written(vm: lkm.VM, home: lkm.GuestPath) -> None:
    with vm.open(home / "f", "w+b", buffering=0) as file:
        file.write(bytes(range(256)) * 64)
        with file.mmap(16384) as memory:
            assert len(memory) == 16384
            assert memory.read(250, 10) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
            assert memory[:4] == b"\0\1\2\3"
            assert memory[-2:] == b"\xfe\xff"
            assert memory[0:10:3] == b"\0\3\6\t"
            memory.write(b"abc", 16381)
            memory[0:2] = b"xy"
            with pytest.raises(ValueError, match="as many bytes"):
                memory[0:2] = b"xyz"
            with pytest.raises(OSError, match="Invalid argument"):
                memory.read(16380, 5)
        assert file.pread(2, 0) == b"xy"
        assert file.pread(9, 16381) == b"abc"
        with file.mmap(4096, offset=4096) as memory:
            assert memory[:3] == b"\0\1\2"


def test_a_fault_in_a_mapping_ends_the_file_and_not_the_machine(
    vm: lkm.VM, home: lkm.GuestPath
) -> None:
    (home / "short").write_bytes(b"x")
    file = vm.open(home / "short", "r+b", buffering=0)
    memory = file.mmap(8192)
    assert memory[:1] == b"x"
    with pytest.raises(lkm.ModuleFailure, match="SIGBUS"):
        memory.read(4096, 1)
    with pytest.raises(lkm.LkmError):
        file.pread(1, 0)
    file.close()
    assert vm.path("/proc/version").exists()


def test_a_closed_file_is_no_file(vm: lkm.VM, home: lkm.GuestPath) -> None:
    file = vm.open(home / "f", "w+b", buffering=0)
    file.close()
    file.close()
    assert file.closed
    actions: list[Callable[[], object]] = [
        lambda: file.read(1),
        lambda: file.write(b"x"),
        lambda: file.ioctl(FIONREAD),
        file.tell,
        file.poll,
        lambda: file.mmap(4096),
    ]
    for action in actions:
        with pytest.raises(ValueError, match="closed"):
            action()


def test_a_path_is_used_as_pathlibs(home: lkm.GuestPath) -> None:
    one = home / "a" / "b"
    assert (one.name, str(one.parent), one.parent.parent) == ("b", f"{home}/a", home)
    with pytest.raises(FileNotFoundError):
        one.mkdir()
    one.mkdir(parents=True, mode=0o750)
    one.mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        one.mkdir()
    assert stat.S_IMODE(one.stat().st_mode) == 0o750
    assert one.is_dir()
    assert not one.is_file()
    file = one / "file"
    assert file.write_text("ä\n") == 2
    assert (file.read_text(), file.read_bytes(), file.stat().st_size) == ("ä\n", b"\xc3\xa4\n", 3)
    with pytest.raises(NotADirectoryError):
        next((file / "x").iterdir())
    assert not (file / "x").exists()


def test_a_path_can_be_changed(home: lkm.GuestPath) -> None:
    file = home / "file"
    file.write_bytes(b"")
    file.chmod(0o400)
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    (home / "link").symlink_to("other")
    assert (home / "link").readlink() == "other"
    assert stat.S_ISLNK((home / "link").lstat().st_mode)
    assert not (home / "link").exists()
    assert file.rename(home / "other") == home / "other"
    assert (home / "link").is_file()
    assert [path.name for path in home.iterdir()] == ["link", "other"]
    with pytest.raises(OSError, match="not empty"):
        home.rmdir()
    for path in home.iterdir():
        path.unlink()
    (home / "link").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (home / "link").unlink()
    home.rmdir()
    assert not home.exists()


def test_a_path_knows_its_kind(vm: lkm.VM) -> None:
    assert vm.path("/dev/null").is_char_device()
    assert not vm.path("/dev/null").is_block_device()
    assert vm.path("/dev/null").stat().st_rdev == os.makedev(1, 3)
    assert vm.path("/proc/self").is_dir()
    assert vm.path("proc/version") == vm.path("/proc/version")
    assert vm.path("/proc") != vm.path("/sys")
    assert "version" in [path.name for path in vm.path("/proc").iterdir()]
