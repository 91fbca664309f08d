from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock
import pytest

from lkm import atomic
from lkm.errors import HostError


class Steps:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, text: str) -> None:
        self.texts.append(text)

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    return tmp_path


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}


def make(dest: Path, text: str) -> None:
    with atomic.exclusive(dest, "it"), atomic.making(dest, "it") as partial:
        (partial / "file").write_text(text)


def make_half(dest: Path, error: type[BaseException]) -> None:
    with atomic.exclusive(dest, "it"), atomic.making(dest, "it") as partial:
        (partial / "file").write_text("half")
        raise error


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    dest = tmp_path / "6.1"
    with atomic.exclusive(dest, "it"), atomic.making(dest, "it") as partial:
        (partial / "file").write_text("new")
        assert not dest.exists()
    assert (dest / "file").read_text() == "new"
    assert names(tmp_path) == {"6.1"}


def test_a_directory_replaces_the_one_before(tmp_path: Path) -> None:
    make(tmp_path / "6.1", "old")
    make(tmp_path / "6.1", "new")
    assert (tmp_path / "6.1" / "file").read_text() == "new"
    assert names(tmp_path) == {"6.1"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    dest = tmp_path / "6.1"
    make(dest, "old")
    with pytest.raises(error):
        make_half(dest, error)
    assert (dest / "file").read_text() == "old"
    assert names(tmp_path) == {"6.1"}


def test_leavings_of_a_dead_process_are_swept_when_the_same_is_made(tmp_path: Path) -> None:
    (tmp_path / ".partial-6.1.dead0000").mkdir()
    other = tmp_path / ".partial-6.1.0-50-amd64.live0000"
    other.mkdir()
    make(tmp_path / "6.1", "new")
    assert names(tmp_path) == {"6.1", other.name}


def test_a_sweep_spares_what_a_living_process_works_on(tmp_path: Path) -> None:
    live, dead = tmp_path / ".partial-live.0000aaaa", tmp_path / ".partial-dead.0000aaaa"
    for partial in (live, dead):
        (partial / "sub").mkdir(parents=True)
    (dead / "sub").chmod(0o500)
    with atomic.exclusive(tmp_path / "live", "it"):
        atomic.sweep(tmp_path)
    assert names(tmp_path) == {live.name}


def test_a_second_process_waits_and_says_so(tmp_path: Path) -> None:
    steps = Steps()
    with (
        filelock.FileLock(tmp_path / ".6.1.lock"),
        pytest.raises(HostError, match=r"another lkm has been making it for 0\.2 s"),
        atomic.exclusive(tmp_path / "6.1", "the kernel 6.1", progress=steps, wait=0.2),
    ):
        pass
    assert steps.texts == ["waiting for another lkm that makes the kernel 6.1"]


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    steps = Steps()
    with atomic.exclusive(tmp_path / "6.1", "the kernel 6.1", progress=steps):
        pass
    assert steps.texts == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_a_disk_that_cannot_be_written_is_the_hosts_fault(number: int, said: str) -> None:
    with pytest.raises(HostError) as caught, atomic.disk_errors("the kernel 6.1"):
        raise OSError(number, os.strerror(number), "/cache/x")
    assert said in str(caught.value)
    assert "LKM_CACHE_DIR" in (caught.value.hint or "")


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(IsADirectoryError), atomic.disk_errors("it"):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


@pytest.mark.parametrize("content", ["grün", b"\0\xff"])
def test_a_file_is_written_whole(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    atomic.write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_written_stays_what_it_was(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "file").write_text("before")

    def fail() -> None:
        with atomic.replacing(tmp_path / "file") as fresh:
            fresh.write_text("half")
            assert (tmp_path / "file").read_text() == "before"
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]


def test_removing_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    atomic.remove(tmp_path / "6.1")
    assert names(tmp_path) == set()


def test_sizes_are_those_on_the_disk(tmp_path: Path) -> None:
    before = atomic.disk_bytes(tmp_path)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100_000_000)
    assert atomic.disk_bytes(tmp_path) - before < 1_000_000
    (tmp_path / "full").write_bytes(b"x" * 1_000_000)
    assert 1_000_000 <= atomic.disk_bytes(tmp_path) - before < 2_000_000


def test_what_is_being_made_has_a_name(tmp_path: Path) -> None:
    with atomic.making(tmp_path / "6.12.1-cloud-amd64", "it") as partial:
        assert atomic.destination(partial / "root") == "6.12.1-cloud-amd64"
        assert atomic.destination(partial) == "6.12.1-cloud-amd64"
    assert atomic.destination(tmp_path / "root") == "root"
