"""What a module has not freed, asked of the machine that it was in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lkm import leaks
from lkm.leaks import Allocation
from lkm.machine import Machine

__all__ = ["unfreed"]

_TRACES = "/sys/kernel/debug/slab"
_CACHE = re.compile(r"kmalloc-(?:cg-|rnd-\d+-)?(?P<size>\d+)(?P<unit>[kM]?)")
_UNITS = {"": 1, "k": 1 << 10, "M": 1 << 20}

LATER = 6.0
"""Seconds of the guest's time in which what is freed later is freed: kfree_rcu() takes up to 5 s
(KFREE_DRAIN_JIFFIES, kernel/rcu/tree.c, 6.12)."""


def unfreed(machine: Machine, module: str) -> tuple[Allocation, ...]:
    """What `module`, which is gone, allocated with kmalloc() or vmalloc() and their kind, and did not free.

    The machine's kernel must know its allocations (`Kernel.knows_allocations`). What is found is looked at
    again, later, so that nothing is told that was only waiting to be freed, or is freed already.
    """
    caches = sorted(name for _, name in machine.list_dir(_TRACES) if _CACHE.fullmatch(name))
    found = leaks.of_module(_allocations(machine, caches), module)
    if not found:
        return ()
    machine.settle(LATER)
    again = [name for name in caches if any(each.cache == name for each in found)]
    for name in again:
        # What was freed is in KASAN's quarantine first, where it counts as allocated: shrinking empties that.
        machine.write(f"/sys/kernel/slab/{name}/shrink", b"1")
    return leaks.of_module(_allocations(machine, again), module)


def _allocations(machine: Machine, caches: list[str]) -> Iterator[Allocation]:
    for name in caches:
        text = machine.read(f"{_TRACES}/{name}/alloc_traces").decode(errors="replace")
        yield from leaks.tracks(text, name, _size(name))
    yield from leaks.areas(machine.read("/proc/vmallocinfo").decode(errors="replace"))


def _size(cache: str) -> int:
    found = _CACHE.fullmatch(cache)
    assert found is not None
    return int(found["size"]) * _UNITS[found["unit"]]
