"""The tests of procfs.ko: pytest examples/procfs"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import lkm

Insmod = Callable[..., lkm.Module]


@pytest.fixture(autouse=True)
def procfs(insmod: Insmod) -> lkm.Module:
    return insmod()


@pytest.fixture
def notes(vm: lkm.VM) -> lkm.GuestPath:
    return vm.path("/proc/procfs/notes")


@pytest.fixture
def limit(vm: lkm.VM) -> lkm.GuestPath:
    return vm.path("/proc/procfs/limit")


def test_begins_empty(notes: lkm.GuestPath) -> None:
    assert notes.read_text() == ""


def test_keeps_what_is_written_in_order(notes: lkm.GuestPath) -> None:
    for word in ("one\n", "two", "  three  \n"):
        notes.write_text(word)
    assert notes.read_text() == "1: one\n2: two\n3:   three\n"


def test_an_empty_line_forgets_all(notes: lkm.GuestPath) -> None:
    notes.write_text("one")
    notes.write_text("\n")
    notes.write_text("two")
    assert notes.read_text() == "2: two\n"


def test_a_long_list_is_read_whole_in_small_pieces(vm: lkm.VM, notes: lkm.GuestPath) -> None:
    with vm.open(notes, "wb", buffering=0) as file:
        for number in range(1, 501):
            file.write(b"note %d" % number)
    with vm.open(notes, "rb", buffering=0) as file:
        whole = b"".join(iter(lambda: file.read(1000), b""))
    assert whole.decode().splitlines() == [f"{n}: note {n}" for n in range(1, 501)]


def test_a_reader_goes_on_where_it_was_while_the_list_changes(
    vm: lkm.VM, notes: lkm.GuestPath
) -> None:
    notes.write_text("one")
    with vm.open(notes, "rb", buffering=0) as file:
        assert file.read(100) == b"1: one\n"
        notes.write_text("two")
        assert file.read(100) == b"2: two\n"
        file.seek(0)
        assert file.read(3) == b"1: "


@pytest.mark.parametrize(
    ("text", "error"), [("x" * 129, "Message too long"), ("one\ntwo", "Invalid argument")]
)
def test_a_bad_note_is_refused(notes: lkm.GuestPath, text: str, error: str) -> None:
    with pytest.raises(OSError, match=error):
        notes.write_text(text)
    assert notes.read_text() == ""


def test_the_oldest_go_when_there_are_too_many(notes: lkm.GuestPath, limit: lkm.GuestPath) -> None:
    for word in ("one", "two", "three"):
        notes.write_text(word)
    limit.write_text("2\n")
    assert notes.read_text() == "2: two\n3: three\n"
    notes.write_text("four")
    assert notes.read_text() == "3: three\n4: four\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0", "out of range"),
        ("-1", "Invalid argument"),
        ("many", "Invalid argument"),
        (str(1 << 32), "out of range"),
    ],
)
def test_a_bad_limit_changes_nothing(limit: lkm.GuestPath, text: str, error: str) -> None:
    with pytest.raises(OSError, match=error):
        limit.write_text(text)
    assert limit.read_text() == "1000\n"


def test_everybody_may_read_the_notes_and_root_alone_the_limit(
    vm: lkm.VM, notes: lkm.GuestPath, limit: lkm.GuestPath
) -> None:
    assert notes.stat().st_mode & 0o777 == 0o644
    assert vm.run(["cat", os.fspath(notes)], user=1000).returncode == 0
    refused = vm.run(["cat", os.fspath(limit)], user=1000)
    assert refused.returncode == 1
    assert b"Permission denied" in refused.stderr


def test_goes_with_its_notes_and_leaves_nothing(
    vm: lkm.VM, procfs: lkm.Module, notes: lkm.GuestPath
) -> None:
    notes.write_text("one")
    procfs.rmmod()
    assert not vm.path("/proc/procfs").exists()
