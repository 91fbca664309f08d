"""What a module asked the kernel's allocators for and never gave back, from their own books. Pure.

With `slub_debug=U` on its command line a kernel keeps for each slab object who allocated it. What is still
allocated is in /sys/kernel/debug/slab/CACHE/alloc_traces (mm/slub.c, since 5.14; the stack since 5.18), and
each vmalloc area with its caller in /proc/vmallocinfo. The code of a module that is gone has no names there any
more, only addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lkm.problems import Frame, Problem, ProblemKind
from lkm.problems.forms import FRAME
from lkm.problems.tracing import MODULE_AREA

__all__ = ["Allocation", "areas", "of_module", "problems", "tracks"]


@dataclass(frozen=True)
class Allocation:
    """`count` objects that one place in the code allocated, of `size` bytes each, in a slab cache or `vmalloc`.

    `trace` begins at that place.
    """

    cache: str
    count: int
    size: int
    trace: tuple[Frame, ...]


_TRACK = re.compile(
    r" *(?P<count>\d+) (?P<caller>\S+(?: \[\S+\])?) "
    r"(?:waste=\d+/(?P<waste>\d+) )?age=\S+ pid=.*"
)
_AREA = re.compile(
    r"0x[0-9a-f]+-0x[0-9a-f]+ +(?P<size>\d+) (?P<caller>\S+(?: \[\S+\])?) .*\bvmalloc\b.*"
)
_PAGE = 4096


def tracks(text: str, cache: str, object_size: int) -> Iterator[Allocation]:
    """The allocations in the alloc_traces of a cache, whose objects have `object_size` bytes."""
    for block in re.split(r"\n\s*\n", text):
        first, *more = block.strip("\n").split("\n")
        if (found := _TRACK.fullmatch(first)) and len(found["count"]) < 10:
            frames = [frame for line in (found["caller"], *more) if (frame := _frame(line))]
            if frames:
                size = object_size - int((found["waste"] or "0")[:9])
                yield Allocation(cache, int(found["count"]), size, _from_the_caller(frames))


def _from_the_caller(frames: list[Frame]) -> tuple[Frame, ...]:
    """The stack without the allocator's own part, where there is one, else the caller alone."""
    caller, *stack = frames
    return tuple(stack[stack.index(caller) :]) if caller in stack else (caller,)


def areas(text: str) -> Iterator[Allocation]:
    """The areas of /proc/vmallocinfo that vmalloc() and its kind made; each has a guard page."""
    for line in text.splitlines():
        found = _AREA.fullmatch(line.strip())
        frame = _frame(found["caller"]) if found else None
        if found and frame:
            yield Allocation("vmalloc", 1, max(int(found["size"][:15]) - _PAGE, 0), (frame,))


def _frame(line: str) -> Frame | None:
    found = FRAME.match(line)
    if not found:
        return None
    offset, size, address = (
        int(found[name], 16) if found[name] and len(found[name]) <= 16 else None
        for name in ("offset", "size", "address")
    )
    return Frame(found["name"], offset, size, found["module"], not found["guess"], address)


def of_module(allocations: Iterable[Allocation], module: str) -> tuple[Allocation, ...]:
    """Those that the code of `module` itself asked for, whether it is still there or gone.

    What the kernel allocates on a module's behalf is the kernel's: it may keep it, or free it later.
    """
    return tuple(each for each in allocations if each.trace and _is_in(each.trace[0], module))


def _is_in(frame: Frame, module: str) -> bool:
    if frame.module:
        return frame.module.replace("-", "_") == module
    return frame.address is not None and frame.address in MODULE_AREA


def problems(allocations: Iterable[Allocation], module: str) -> tuple[Problem, ...]:
    """Each as a problem, at the place that allocated; equal ones are counted."""
    return tuple(_problem(each, module) for each in allocations)


def _problem(found: Allocation, module: str) -> Problem:
    place = found.trace[0]
    many = f"{found.count} times " if found.count > 1 else ""
    return Problem(
        kind=ProblemKind.LEAK,
        summary=f"memory leak: {many}{found.size} bytes ({found.cache}) that are never freed",
        function=place.function,
        module=module,
        file=None,
        line=None,
        offset=place.offset,
        size=place.size,
        address=place.address,
        process=None,
        taint="",
        trace=found.trace,
        records=(0, 0),
        count=found.count,
        fault=place,
    )
