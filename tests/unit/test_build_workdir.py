"""The private copy of a source: what is copied, when, and what an untrusted tree cannot do."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from lkm import source as sources
from lkm.errors import HostError, UsageError
from lkm.kbuild import workdir
from lkm.kbuild.workdir import Copy, SourceChangedError, WorkDir


@pytest.fixture
def src(tmp_path: Path) -> Path:
    directory = tmp_path / "src"
    directory.mkdir()
    (directory / "Kbuild").write_text("obj-m := a.o\n")
    (directory / "a.c").write_text("int a;\n")
    return directory


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    (tmp_path / "work").mkdir()
    return WorkDir(tmp_path / "work")


def look(src: Path) -> tuple[Copy, ...]:
    return workdir.snapshot(sources.find(src))


def settled(work: WorkDir, src: Path) -> None:
    workdir.settle(work, workdir.sync(work, look(src)))


def times(work: WorkDir) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in work.tree.rglob("*") if path.is_file()}


def test_the_tree_follows_the_source(src: Path, work: WorkDir) -> None:
    settled(work, src)
    (src / "a.c").unlink()
    (src / "sub").mkdir()
    (src / "sub/b.c").write_text("b")
    (src / "run.sh").write_text("#!/bin/sh\n")
    (src / "run.sh").chmod(0o755)
    settled(work, src)
    assert sorted(str(p.relative_to(work.tree)) for p in work.tree.rglob("*") if p.is_file()) == [
        "Kbuild",
        "run.sh",
        "sub/b.c",
    ]
    assert (work.tree / "run.sh").stat().st_mode & 0o777 == 0o755


def test_only_changed_contents_are_copied_again(src: Path, work: WorkDir) -> None:
    settled(work, src)
    before = times(work)
    os.utime(src / "a.c")
    (src / "Kbuild").write_text("obj-m := a.o # changed\n")
    settled(work, src)
    after = times(work)
    assert after["a.c"] == before["a.c"]
    assert after["Kbuild"] > before["Kbuild"]


def test_an_older_version_that_comes_back_is_newer_than_its_object(
    src: Path, work: WorkDir
) -> None:
    os.utime(src / "a.c", (1, 1))
    settled(work, src)
    assert (work.tree / "a.c").stat().st_mtime > 1


def test_what_make_leaves_stays(src: Path, work: WorkDir) -> None:
    settled(work, src)
    (work.tree / "a.o").write_text("object")
    settled(work, src)
    assert (work.tree / "a.o").read_text() == "object"


def test_a_tree_in_doubt_is_made_anew(src: Path, work: WorkDir) -> None:
    settled(work, src)
    workdir.sync(work, look(src))  # and then lkm was killed
    (work.tree / "half.o").write_text("")
    settled(work, src)
    assert not (work.tree / "half.o").exists()


def test_a_source_that_the_makefile_rewrote_is_restored(src: Path, work: WorkDir) -> None:
    settled(work, src)
    (work.tree / "a.c").write_text("patched")
    settled(work, src)
    assert (work.tree / "a.c").read_text() == "int a;\n"


@pytest.mark.parametrize("name", ["a.c", "sub"])
def test_links_that_a_makefile_planted_are_not_written_through(
    src: Path, work: WorkDir, tmp_path: Path, name: str
) -> None:
    (src / "sub").mkdir()
    (src / "sub/a.c").write_text("sub")
    settled(work, src)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.c").write_text("precious")
    planted = work.tree / name
    shutil.rmtree(planted) if planted.is_dir() else planted.unlink()
    planted.symlink_to(outside if name == "sub" else outside / "a.c")
    (src / "a.c").write_text("new")
    (src / "sub/a.c").write_text("new")
    settled(work, src)
    assert (outside / "a.c").read_text() == "precious"
    assert (work.tree / "a.c").read_text() == "new"
    assert (work.tree / "sub/a.c").read_text() == "new"


def test_a_file_may_become_a_directory_and_back(src: Path, work: WorkDir) -> None:
    (src / "x").write_text("file")
    settled(work, src)
    (src / "x").unlink()
    (src / "x").mkdir()
    (src / "x/y").write_text("inner")
    settled(work, src)
    assert (work.tree / "x/y").read_text() == "inner"
    shutil.rmtree(src / "x")
    (src / "x").write_text("file")
    settled(work, src)
    assert (work.tree / "x").read_text() == "file"


def test_a_file_that_changes_or_vanishes_while_copying_is_noticed(src: Path, work: WorkDir) -> None:
    copies = look(src)
    (src / "a.c").write_text("later")
    with pytest.raises(SourceChangedError):
        workdir.sync(work, copies)
    (src / "a.c").unlink()
    with pytest.raises(SourceChangedError):
        workdir.sync(work, copies)


def test_a_file_that_vanishes_while_looking_is_noticed(
    src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sources.SourceFile("gone.h", str(src / "gone.h"), 0o644, 0)
    monkeypatch.setattr(sources, "files", lambda _: (gone,))
    with pytest.raises(SourceChangedError):
        look(src)


def test_a_source_that_is_gone_says_so(src: Path) -> None:
    found = sources.find(src)
    shutil.rmtree(src)
    with pytest.raises(UsageError, match="is gone"):
        workdir.snapshot(found)


def test_an_unreadable_file_is_named(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> tuple[sources.SourceFile, ...]:
        raise PermissionError(13, "Permission denied", str(src / "a.c"))

    monkeypatch.setattr(sources, "files", refuse)
    with pytest.raises(UsageError, match=r"cannot read .*/a\.c"):
        look(src)


def test_a_single_file_gets_a_kbuild_file(src: Path, work: WorkDir) -> None:
    workdir.sync(work, workdir.snapshot(sources.find(src / "a.c")))
    assert (work.tree / "Kbuild").read_text() == "obj-m := a.o\n"


def test_names_that_are_not_utf8_are_copied(src: Path, work: WorkDir) -> None:
    with open(os.fsencode(src) + b"/\xff.h", "wb"):
        pass
    settled(work, src)
    settled(work, src)
    assert (work.tree / os.fsdecode(b"\xff.h")).exists()


def _hold(path: Path, ready: str) -> None:
    with workdir.locked(path, timeout=1):
        Path(ready).touch()
        while Path(ready).exists():
            pass


def test_a_lock_that_another_process_holds_has_a_limit(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    context = multiprocessing.get_context("spawn")
    holder = context.Process(target=_hold, args=(tmp_path / "w", str(ready)))
    holder.start()
    try:
        while not ready.exists():
            assert holder.is_alive()
        with (
            pytest.raises(HostError, match="another lkm has been building"),
            workdir.locked(tmp_path / "w", timeout=0.05),
        ):
            pytest.fail("the lock was taken twice")
        ready.unlink()
        with workdir.locked(tmp_path / "w", timeout=30):
            pass
    finally:
        holder.kill()
        holder.join()


def test_a_lock_outlives_the_removal_of_its_directory(tmp_path: Path) -> None:
    with workdir.locked(tmp_path / "w", timeout=1):
        workdir.remove_tree(tmp_path / "w")
        with workdir.locked(tmp_path / "w", timeout=1):
            assert (tmp_path / "w/lock").exists()


def test_unwritable_directories_are_removed_too(tmp_path: Path) -> None:
    (tmp_path / "t/a/b").mkdir(parents=True)
    (tmp_path / "t/a/b/c").touch()
    (tmp_path / "t/a/b").chmod(0o500)
    (tmp_path / "t/a").chmod(0)
    workdir.remove_tree(tmp_path / "t")
    assert not (tmp_path / "t").exists()
