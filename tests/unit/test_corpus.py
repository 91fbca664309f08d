"""Each real report of a module with debug info, traced to its line of source, on every series."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

import pytest
from tests.unit.no_sources import NoSources

from lkm.log import parse_console, parse_kmsg
from lkm.problems import Module, Process, find, trace
from lkm.symbolize import DebugInfo

DATA = Path(__file__).parents[1] / "data"
PATHS = sorted((DATA / "logs" / "captured").glob("*/*"))
LINES = {
    name: (DATA / "modules" / f"{name}.c").read_text().split("\n") for name in ("crash", "worse")
}

# For each way to go wrong: (the function, a line of it, which of several equal ones) a problem.
AT: dict[str, list[tuple[str, str, int]]] = {
    "read_null": [("read_null", "return *(volatile int *)address;", 1)],
    "write_bad": [("write_bad", "*(volatile int *)address = 1;", 1)],
    "call_null": [("call_null", "return function() + 1;", 1)],
    "not_canonical": [("not_canonical", "return *(volatile int *)address;", 1)],
    "divide": [("divide", "return 100 / zero;", 1)],
    "bad_opcode": [("bad_opcode", 'asm volatile(".byte 0x0f, 0x04" : : : "memory");', 1)],
    "stack_segment": [("stack_segment", 'asm volatile("push %%rbp\\n\\t"', 1)],
    "bug_here": [("bug_here", "BUG_ON(forever);", 1)],
    "warn_here": [("warn_here", "WARN_ON(forever);", 1)],
    "warn_with_words": [
        ("warn_with_words", 'WARN(forever, "the answer is %d, not %d\\n", 42, 41);', 1)
    ],
    "warn_twice": [("warn_twice", "WARN_ON(forever);", 1)] * 2,
    "panic_here": [("panic_here", 'panic("crash: asked for");', 1)],
    "corrupt_list": [("corrupt_list", "list_del(&one);", 1)],
    "add_twice": [("add_twice", "list_add(&one, &head);", 2)],
    "saturate": [("saturate", "refcount_inc(&count);", 1)],
    "underflow": [
        ("underflow", "refcount_dec(&count);", 1),
        ("underflow", "if (refcount_dec_and_test(&count))", 1),
    ],
    "sleep_under_spinlock": [("sleep_under_spinlock", "msleep(20);", 1), ("crash_init", "{", 1)],
    "leave_preempt_off": [("crash_init", "{", 1)],
    "leave_irqs_off": [("crash_init", "{", 1)],
    "leak_in_timer": [("keep_preempt_off", "{", 1)],
    "spin": [("spin", "while (forever)", 1)],
    "wait_for_ever": [("wait_for_ever", "mutex_lock(&lock);", 2)],
    "name_twice": [
        ("name_twice", 'struct kobject *two = kobject_create_and_add("crash_name", NULL);', 1)
    ],
    "index_out_of_bounds": [("index_out_of_bounds", "table[index & 15]++;", 1)],
    "use_after_free": [("use_after_free", "*(volatile char *)room;", 1)],
    "write_past_end": [("write_past_end", "kfree(room);", 1)],
    "free_twice": [("free_twice", "kfree(room);", 2)],
    "lose_stack": [("lose_stack", 'asm volatile("xchg %0, %%rsp\\n\\t"', 1)] * 2,
    "hold_rcu": [("hold_rcu", "udelay(1000);", 1)],
    "free_locked_page": [("free_locked_page", "__free_page(page);", 1)],
}
WORSE = {"lose_stack", "hold_rcu", "free_locked_page"}
"""The ways of worse.c."""
ELSEWHERE = {"oops_init", "oops_exit", "warn", "odd_return", "overflow_stack"}
"""Other modules; a report that names no place; a recursion, which ends wherever the stack does."""


@cache
def info(series: str, name: str) -> DebugInfo:
    packed = (DATA / "symbolize" / series / f"{name}.ko.xz").read_bytes()
    return DebugInfo(lzma.decompress(packed), f"{name}.ko")


def number(module: str, function: str, text: str, which: int) -> int:
    """The line of the module's source that the function has it in."""
    lines = LINES[module]
    start = next(n for n, line in enumerate(lines) if f" {function}(" in line and ";" not in line)
    found = [n for n in range(start, len(lines)) if lines[n].strip() == text]
    return found[which - 1] + 1


def test_there_are_reports_enough_and_each_has_its_line() -> None:
    assert len(PATHS) >= 60
    assert len({path.parent.name for path in PATHS}) >= 5
    assert {path.stem for path in PATHS} == AT.keys() | ELSEWHERE


@pytest.mark.parametrize(
    "path",
    [path for path in PATHS if path.stem in AT],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_real_report_is_traced_to_its_line(path: Path) -> None:
    raw = path.read_bytes()
    records = parse_kmsg(raw) if path.suffix == ".kmsg" else parse_console(raw)
    # What a corrupted slab does to others is not the module's.
    reports = [problem for problem in find(records) if problem.module]
    name = "worse" if path.stem in WORSE else "crash"
    problems = trace(reports, [Module(name, info(path.parent.name, name))], NoSources())
    found = [(problem.function, problem.line) for problem in problems]
    expected = [(at, number(name, at, text, which)) for at, text, which in AT[path.stem]]
    assert found == expected


# The debug kernel: tests/data/modules/sanitize.c marks the line that each way is about.
DEBUG = {
    "abba": ["lockdep"],
    "bad_copy": ["KASAN"],
    "bad_index": ["UBSAN", "KASAN"],
    "double_free": ["KASAN"],
    "freed_timer": ["debug-objects"],
    "freed_work": ["debug-objects", "sleeping-in-invalid-context"],
    "global_out_of_bounds": ["KASAN"],
    "shift": ["UBSAN"],
    "slab_out_of_bounds": ["KASAN"],
    "sleep_under_spinlock": ["scheduling-while-atomic", "lockdep"],
    "stack_out_of_bounds": ["KASAN"],
    "uninitialised_timer": ["debug-objects", "debug-objects"],
    "uninitialised_work": ["WARNING"],
    "use_after_free": ["KASAN"],
    "vmalloc_out_of_bounds": ["KASAN", "oops"],
}
SANITIZE = (DATA / "modules" / "sanitize.c").read_text().split("\n")


@pytest.mark.parametrize("way", DEBUG)
def test_a_report_of_the_debug_kernel_is_traced_to_its_line(way: str) -> None:
    packed = (DATA / "symbolize" / "debug" / "sanitize.ko.xz").read_bytes()
    module = Module("sanitize", DebugInfo(lzma.decompress(packed), "sanitize.ko"))
    records = parse_kmsg((DATA / "logs" / "debug" / f"{way}.kmsg").read_bytes())
    problems = trace(find(records), [module], NoSources())
    (marked,) = (n for n, line in enumerate(SANITIZE, 1) if f"/* {way} here */" in line)
    assert [str(problem.kind) for problem in problems] == DEBUG[way]
    assert problems[0].function == way
    assert problems[0].line == marked


def test_every_log_of_the_debug_kernel_is_tried() -> None:
    ways = {path.stem for path in (DATA / "logs" / "debug").iterdir()}
    assert ways == {*DEBUG, "forget_memory"}


def test_the_objects_that_kmemleak_finds_are_told_by_the_line_that_allocated_them() -> None:
    module = Module("worse", info("debug", "worse"))
    records = parse_kmsg((DATA / "logs" / "debug" / "forget_memory.kmsg").read_bytes())
    (problem,) = trace(find(records), [module], NoSources())
    line = number("worse", "forget_memory", "last = kmalloc(100, GFP_KERNEL);", 1)
    assert (problem.kind, problem.function, problem.line) == ("kmemleak", "forget_memory", line)
    assert problem.count == 16
    assert problem.process == Process("init", problem.process.pid if problem.process else 0)
