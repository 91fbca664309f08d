from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from lkm import leaks
from lkm.machine import Machine
from lkm.problems import ProblemKind
from lkm.unfreed import unfreed

DATA = Path(__file__).parents[1] / "data" / "leaks" / "6.12"


def tracks(name: str) -> tuple[leaks.Allocation, ...]:
    return tuple(leaks.tracks((DATA / name).read_text(), "kmalloc-128", 128))


def test_what_a_loaded_module_has_allocated_is_named() -> None:
    (leak,) = leaks.of_module(tracks("kmalloc-128.loaded"), "sanitize")
    assert (leak.count, leak.size, leak.cache) == (1, 100, "kmalloc-128")
    names = [frame.function for frame in leak.trace]
    assert names[:3] == ["leak", None, "do_one_initcall"]  # the init section is gone
    assert (leak.trace[0].offset, leak.trace[0].module) == (0x2B, "sanitize")


def test_what_an_unloaded_module_left_has_addresses() -> None:
    (leak,) = leaks.of_module(tracks("kmalloc-128.unloaded"), "sanitize")
    assert leak.trace[0].address == 0xFFFFFFFFA00002DB
    assert leak.trace[1].address == 0xFFFFFFFFA0007079
    (problem,) = leaks.problems([leak], "sanitize")
    assert (problem.kind, problem.module) == (ProblemKind.LEAK, "sanitize")
    assert problem.address == 0xFFFFFFFFA00002DB
    assert problem.trace == leak.trace
    assert problem.summary == "memory leak: 100 bytes (kmalloc-128) that are never freed"


def test_every_allocation_is_read_with_its_count_and_size() -> None:
    found = tracks("kmalloc-128.unloaded")
    assert [(each.count, each.size) for each in found] == [
        (21, 128),
        (8, 128),
        (7, 106),
        (1, 100),
        (1, 120),
    ]
    assert [each.trace[0].function for each in found][:3] == [
        "kernfs_fop_open", "blk_alloc_flush_queue", "pci_create_attr",
    ]  # fmt: skip


def test_another_modules_allocations_are_not_this_ones() -> None:
    assert leaks.of_module(tracks("kmalloc-128.loaded"), "another") == ()


def test_an_area_of_vmalloc_has_its_caller_and_its_size_without_the_guard_page() -> None:
    for name, function in (("vmallocinfo.loaded", "leak_vmalloc"), ("vmallocinfo.unloaded", None)):
        found = leaks.of_module(leaks.areas((DATA / name).read_text()), "sanitize")
        assert [(each.size, each.trace[0].function) for each in found] == [(4096, function)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No data\n",
        "\n\n",
        "      1 \n",
        "      99999999999 f+0x1/0x2 age=1 pid=1\n",
        "1 f age=1 pid=1",
    ],
)
def test_what_is_no_allocation_is_passed_over(text: str) -> None:
    assert list(leaks.tracks(text, "kmalloc-8", 8)) == []
    assert list(leaks.areas(text)) == []


def test_a_kernel_without_stacks_tells_the_caller_alone() -> None:
    text = "      3 leak+0x2b/0x50 [sanitize] age=13/14/15 pid=33 cpus=0\n\n"
    (leak,) = leaks.of_module(leaks.tracks(text, "kmalloc-64", 64), "sanitize")
    assert (leak.count, leak.size, len(leak.trace)) == (3, 64, 1)
    (problem,) = leaks.problems([leak], "sanitize")
    assert problem.summary == "memory leak: 3 times 64 bytes (kmalloc-64) that are never freed"


class Guest:
    """A machine whose cache kmalloc-128 reads as the given texts, one a time."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.done: list[Any] = []

    def list_dir(self, path: str) -> list[tuple[str, str]]:
        return [("d", "dentry"), ("d", "kmalloc-128"), ("d", "kmalloc-rcl-64")]

    def write(self, path: str, data: bytes) -> None:
        self.done.append(path)

    def read(self, path: str) -> bytes:
        return self.texts.pop(0).encode() if path.endswith("alloc_traces") else b""

    def settle(self, seconds: float) -> None:
        self.done.append(seconds)


LEFT = (DATA / "kmalloc-128.unloaded").read_text()
SHRINK = "/sys/kernel/slab/kmalloc-128/shrink"


@pytest.mark.parametrize(
    ("texts", "count", "done"),
    [
        (["No data\n"], 0, []),
        ([LEFT, LEFT], 1, [6.0, SHRINK]),
        ([LEFT, "No data\n"], 0, [6.0, SHRINK]),
    ],
    ids=["nothing left", "a leak", "freed later"],
)
def test_only_what_is_still_there_later_is_a_leak(
    texts: list[str], count: int, done: list[Any]
) -> None:
    guest = Guest(texts)
    assert len(unfreed(cast("Machine", guest), "sanitize")) == count
    assert guest.done == done
