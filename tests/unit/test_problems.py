"""The problems of real logs, and none in the others. tests/data/logs/README.md says where they are from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.log import Record, parse_console, parse_kmsg
from lkm.problems import Frame, Problem, ProblemKind, Process, find, to_dict

LOGS = Path(__file__).parents[1] / "data" / "logs"
SERIES = ("5.10", "6.1", "6.12", "7.2", "7.3")
K = ProblemKind


def read(path: Path) -> list[Record]:
    raw = path.read_bytes()
    return parse_kmsg(raw) if path.suffix == ".kmsg" else parse_console(raw)


def lines(*texts: str) -> list[Record]:
    return [Record(None, 1.0, None, 0, text) for text in texts]


def written(name: str) -> list[Record]:
    return read(LOGS / "written" / f"{name}.console")


# What `crash what=NAME` (tests/data/modules/crash.c) and its neighbours did, in every series: for each
# problem its kind, the function at fault, and how the summary begins.
NULL = "BUG: kernel NULL pointer dereference, address: 0000000000000000"
GPF = "general protection fault, probably for non-canonical address 0xdead000000000100"
CAPTURED: dict[str, list[tuple[ProblemKind, str | None, str]]] = {
    "read_null": [(K.OOPS, "read_null", NULL)],
    "write_bad": [
        (K.OOPS, "write_bad", "BUG: unable to handle page fault for address: ffffffff12345678")
    ],
    "call_null": [(K.OOPS, "call_null", NULL)],
    "not_canonical": [(K.OOPS, "not_canonical", GPF)],
    "stack_segment": [(K.OOPS, "stack_segment", GPF)],
    "divide": [(K.OOPS, "divide", "divide error")],
    "bad_opcode": [(K.OOPS, "bad_opcode", "invalid opcode")],
    "oops_init": [(K.OOPS, "write_to_null.constprop.0", NULL)],
    "oops_exit": [(K.OOPS, "write_to_null.constprop.0", NULL)],
    "bug_here": [(K.BUG, "bug_here", "kernel BUG at ")],
    "warn": [(K.WARNING, "warn_init", "WARNING at ")],
    "warn_here": [(K.WARNING, "warn_here", "WARNING at ")],
    "warn_with_words": [(K.WARNING, "warn_with_words", "WARNING: the answer is 42, not 41")],
    "warn_twice": [
        (K.WARNING, "warn_twice", "WARNING at "),
        (K.WARNING, "warn_twice", "WARNING at "),
    ],
    "panic_here": [(K.PANIC, "panic_here", "Kernel panic - not syncing: crash: asked for")],
    "overflow_stack": [
        (K.STACK_OVERFLOW, "recurse", "BUG: "),
        (
            K.PANIC,
            "recurse",
            "Kernel panic - not syncing: Fatal exception in interrupt (after BUG: ",
        ),
    ],
    "corrupt_list": [
        (K.LIST_CORRUPTION, "corrupt_list", "list_del corruption. next->prev should be")
    ],
    "saturate": [(K.REFCOUNT, "saturate", "refcount_t: addition on 0; use-after-free.")],
    "underflow": [
        (K.REFCOUNT, "underflow", "refcount_t: decrement hit 0; leaking memory."),
        (K.REFCOUNT, "underflow", "refcount_t: underflow; use-after-free."),
    ],
    "add_twice": [(K.LIST_CORRUPTION, "add_twice", "list_add double add: ")],
    "leak_in_timer": [(K.UNBALANCED, "keep_preempt_off", "timer: keep_preempt_off+0x0/")],
    "leave_irqs_off": [(K.UNBALANCED, "crash_init", "initcall crash_init+0x0/")],
    "leave_preempt_off": [(K.UNBALANCED, "crash_init", "initcall crash_init+0x0/")],
    "sleep_under_spinlock": [
        (
            K.SCHEDULING_WHILE_ATOMIC,
            "sleep_under_spinlock",
            "BUG: scheduling while atomic: init/",
        ),
        (K.UNBALANCED, "crash_init", "initcall crash_init+0x0/"),
    ],
    "spin": [(K.SOFT_LOCKUP, "spin", "BUG: soft lockup - CPU#")],
    "wait_for_ever": [(K.HUNG_TASK, "wait_for_ever", "INFO: task init:")],
    "name_twice": [
        (K.SYSFS_DUPLICATE, "name_twice", "cannot create duplicate filename '//crash_name'")
    ],
    "odd_return": [(K.SUSPICIOUS_RETURN, None, "")],
    "index_out_of_bounds": [
        (K.UBSAN, "index_out_of_bounds", "UBSAN: array-index-out-of-bounds in ")
    ],
    "use_after_free": [(K.KFENCE, "use_after_free", "BUG: KFENCE: use-after-free read in ")],
    "write_past_end": [(K.SLAB, "write_past_end", "BUG kmalloc-64: ")],
    "free_twice": [(K.SLAB, "free_twice", "BUG kmalloc-64: Object already free")],
    "lose_stack": [
        (K.DOUBLE_FAULT, "lose_stack", "PANIC: double fault"),
        (K.PANIC, "lose_stack", "Kernel panic - not syncing: "),
    ],
    "hold_rcu": [(K.RCU_STALL, "hold_rcu", "INFO: rcu_")],
    "free_locked_page": [(K.BAD_PAGE, "free_locked_page", "BUG: Bad page state in process init")],
}
PATHS = sorted((LOGS / "captured").glob("*/*"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_real_report_is_found_typed_and_traced_to_the_modules_function(path: Path) -> None:
    # A corrupted slab is noticed again by whoever uses it next: those reports are not the module's.
    found = [problem for problem in find(read(path)) if problem.module]
    expected = CAPTURED[path.stem]
    assert [(problem.kind, problem.function) for problem in found] == [row[:2] for row in expected]
    for problem, (_, _, summary) in zip(found, expected, strict=True):
        assert problem.summary.startswith(summary)
        assert "\n" not in problem.summary
        assert problem.module == MODULE_OF.get(path.stem, "crash")


MODULE_OF = {
    **{name: name for name in ("oops_init", "oops_exit", "warn")},
    **dict.fromkeys(("lose_stack", "hold_rcu", "free_locked_page"), "worse"),
}


def test_every_captured_way_to_go_wrong_is_known_and_every_known_one_captured() -> None:
    assert {path.stem for path in PATHS} == set(CAPTURED)
    assert {path.parent.name for path in PATHS} == set(SERIES)


# The lines of tests/data/modules/crash.c and warn.c.
PLACES = {
    "bug_here": 102,
    "warn_here": 108,
    "warn_with_words": 114,
    "index_out_of_bounds": 209,
    "warn": 16,
}


@pytest.mark.parametrize("path", [path for path in PATHS if path.stem in PLACES], ids=str)
def test_a_report_that_names_its_line_gives_file_and_line(path: Path) -> None:
    (problem,) = find(read(path))
    assert problem.file is not None
    assert Path(problem.file).name == ("warn.c" if path.stem == "warn" else "crash.c")
    assert problem.line == PLACES[path.stem]


@pytest.mark.parametrize("series", SERIES)
def test_a_line_of_the_kernels_own_is_not_given_for_the_modules_function(series: str) -> None:
    (problem,) = find(read(LOGS / "captured" / series / "saturate.kmsg"))
    assert (problem.function, problem.file, problem.line) == ("saturate", None, None)


@pytest.mark.parametrize("series", SERIES)
def test_an_oops_knows_its_process_taint_offset_and_trace(series: str) -> None:
    (problem,) = find(read(LOGS / "captured" / series / "call_null.kmsg"))
    assert problem.process is not None
    assert problem.process.comm == "init"
    assert problem.taint == "GOE"
    assert problem.offset is not None
    assert problem.size is not None
    assert 0 < problem.offset < problem.size
    assert Frame("call_null", problem.offset, problem.size, "crash", True) in problem.trace
    assert any(not frame.reliable for frame in problem.trace)


@pytest.mark.parametrize("series", SERIES)
def test_a_report_has_its_records_from_the_first_line_to_the_last(series: str) -> None:
    records = read(LOGS / "captured" / series / "read_null.kmsg")
    (problem,) = find(records)
    texts = [record.text for record in records[slice(*problem.records)]]
    assert texts[0].startswith("BUG: kernel NULL pointer")
    # The registers are printed again after the end marker; `note:` may follow.
    assert texts[-1].startswith(("CR2: ", "note: ", "PKRU: "))
    assert any(text.startswith("---[ end trace") for text in texts)
    assert all("crash: loading" not in text and "clocksource" not in text for text in texts)


def test_a_report_that_repeats_itself_is_one_problem_with_a_count() -> None:
    (problem,) = find(read(LOGS / "captured/6.1/wait_for_ever.kmsg"))
    assert problem.count == 10


def test_reports_from_two_places_are_two_problems() -> None:
    first, second = find(read(LOGS / "captured/7.3/warn_twice.kmsg"))
    assert first.offset != second.offset
    assert (first.count, second.count) == (1, 1)
    assert first.records[1] == second.records[0]


def test_the_first_report_counts_when_a_later_one_is_equal() -> None:
    once = read(LOGS / "captured/6.1/warn_here.kmsg")
    (problem,) = find([*once, *once])
    assert problem == Problem(**{**vars(find(once)[0]), "count": 2})


# Reports of kernels that are not at hand, from their print sites.
WRITTEN: dict[str, list[tuple[ProblemKind, str | None, str | None, int | None]]] = {
    "arm64_null_pointer_6.1": [(K.OOPS, "read_null", None, None)],
    "cut_short_6.1": [(K.OOPS, "write_bad", None, None)],
    "double_fault_6.12": [(K.DOUBLE_FAULT, "bad_stack", None, None)],
    "freed_text_6.1": [(K.OOPS, None, None, None), (K.PANIC, None, None, None)],
    "hard_lockup_5.10": [(K.HARD_LOCKUP, "spin_without_irqs", None, None)],
    "hard_lockup_6.12": [(K.HARD_LOCKUP, "spin_without_irqs", None, None)],
    "hard_lockup_7.3": [(K.HARD_LOCKUP, "spin_without_irqs", None, None)],
    "hung_task_in_io_7.3": [(K.HUNG_TASK, "wait_for_io", None, None)],
    "interleaved_6.1": [(K.OOPS, "write_bad", None, None)],
    "kasan_double_free_6.1": [(K.KASAN, "free_twice", None, None)],
    "kasan_null_deref_6.1": [(K.OOPS, "read_null", None, None)],
    "kasan_out_of_bounds_5.10": [(K.KASAN, "write_past_end", None, None)],
    "kasan_use_after_free_6.12": [(K.KASAN, "use_after_free", None, None)],
    "kcsan_6.1": [(K.KCSAN, "race_a", None, None)],
    "kfence_invalid_free_6.12": [(K.KFENCE, "free_twice", None, None)],
    "kmemleak": [(K.KMEMLEAK, None, None, None)],
    "list_add_warning_6.1": [(K.LIST_CORRUPTION, "corrupt_list", None, None)],
    "list_add_warning_7.3": [(K.LIST_CORRUPTION, "corrupt_list", None, None)],
    "lockdep_circular_6.12": [(K.LOCKDEP, "abba", None, None)],
    "lockdep_rcu_usage_6.1": [(K.LOCKDEP, "read_without_lock", None, None)],
    "lockdep_recursive_5.10": [(K.LOCKDEP, "twice", None, None)],
    "lockdep_wait_context_6.1": [(K.LOCKDEP, "wrong_order", None, None)],
    "odebug_6.1": [(K.DEBUG_OBJECTS, "free_running_timer", None, None)],
    "panic_on_warn_6.1": [
        (K.WARNING, "warn_here", "/build/crash.c", 105),
        (K.PANIC, "warn_here", "/build/crash.c", 105),
    ],
    "rcu_stall_6.1": [(K.RCU_STALL, "spin", None, None)],
    "rcu_stall_other_cpu_5.10": [(K.RCU_STALL, "spin_without_irqs", None, None)],
    "sleeping_function_5.10": [(K.INVALID_SLEEP, "sleep_under_spinlock", "/build/crash.c", 170)],
    "sleeping_function_6.12": [(K.INVALID_SLEEP, "mutex_under_spinlock", None, None)],
    "ubsan_bounds_6.12": [(K.UBSAN, "index_out_of_bounds", "/build/crash.c", 206)],
    "ubsan_shift_5.10": [(K.UBSAN, "shift_too_far", "/build/crash.c", 210)],
    "unknown_cut_here": [(K.WARNING, "trigger_it", None, None)],
    "usercopy_6.1": [(K.BUG, "crash_read", None, None)],
    "warning_with_condition_6.19": [(K.WARNING, "warn_here", "/build/crash.c", 105)],
    "warning_without_file_6.1": [(K.WARNING, "warn_here", None, None)],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_report_is_found_typed_and_placed(name: str) -> None:
    found = [(p.kind, p.function, p.file, p.line) for p in find(written(name))]
    assert found == WRITTEN[name]


def test_every_written_report_is_expected() -> None:
    assert {path.stem for path in (LOGS / "written").glob("*.console")} == set(WRITTEN)


CLEAN = sorted((LOGS / "clean").glob("*/*"))


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_log_where_nothing_went_wrong_has_no_problems(path: Path) -> None:
    records = read(path)
    assert records
    assert find(records) == []


def test_lines_of_others_do_not_end_a_report() -> None:
    records = written("interleaved_6.1")
    (problem,) = find(records)
    texts = [record.text for record in records[slice(*problem.records)]]
    assert texts[-1].startswith("---[ end trace")
    assert problem.trace[-1].function == "entry_SYSCALL_64_after_hwframe"


def test_the_trace_is_the_call_trace_and_not_where_memory_was_allocated() -> None:
    (problem,) = find(written("kasan_out_of_bounds_5.10"))
    assert "kasan_save_stack" not in [frame.function for frame in problem.trace]


def test_freed_text_has_an_address_in_place_of_a_function() -> None:
    oops, panic = find(written("freed_text_6.1"))
    assert oops.address == panic.address == 0xFFFFFFFFC0205040
    assert oops.process == Process("swapper/0", 0)


def test_a_panic_names_what_it_follows_from() -> None:
    _, panic = find(written("panic_on_warn_6.1"))
    assert panic.summary == (
        "Kernel panic - not syncing: kernel: panic_on_warn set ..."
        " (after WARNING at /build/crash.c:105)"
    )


@pytest.mark.parametrize(
    ("line", "kind", "summary"),
    [
        ("divide error: 0000 [#1] SMP NOPTI", K.OOPS, "divide error"),
        ("Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI", K.OOPS, "divide error"),
        ("Oops: 0002 [#1] PREEMPT SMP NOPTI", K.OOPS, "Oops"),
        ("Oops: Oops: 0002 [#2] SMP NOPTI", K.OOPS, "Oops"),
        ("general protection fault: 0000 [#1] SMP", K.OOPS, "general protection fault"),
        ("stack segment: 0000 [#1] SMP", K.OOPS, "stack segment"),
        ("control protection fault: 0003 [#1] SMP", K.OOPS, "control protection fault"),
        ("double fault: 0000 [#1] SMP", K.DOUBLE_FAULT, "double fault"),
        (
            "kernel stack overflow (double-fault): 0000 [#1] SMP",
            K.STACK_OVERFLOW,
            "kernel stack overflow",
        ),
        ("Oops: stack guard page: 0000 [#1] SMP", K.STACK_OVERFLOW, "stack guard page"),
        ("Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP", K.OOPS, "Oops"),
        (
            "Kernel BUG at f+0x1/0x2 [verbose debug info unavailable]",
            K.BUG,
            "Kernel BUG at f+0x1/0x2",
        ),
        ("BUG: using smp_processor_id() in preemptible [00000000] code: a/1", K.BUG, "BUG: using"),
        ("BUG: spinlock bad magic on CPU#0, insmod/78", K.BUG, "BUG: spinlock bad magic"),
        (
            "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck",
            K.BUG,
            "BUG: workqueue",
        ),
        (
            "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]",
            K.UNBALANCED,
            "BUG: workqueue",
        ),
        ("BUG: workqueue leaked lock or atomic: kworker/0:1/0x1/9", K.UNBALANCED, "BUG: workqueue"),
        ("BUG: Bad page state in process insmod  pfn:05a2b", K.BAD_PAGE, "BUG: Bad page state"),
        ("BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1", K.BUG, "BUG: Bad rss-counter"),
        ("INFO: trying to register non-static key.", K.LOCKDEP, "INFO: trying to register"),
        (
            "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
            K.LOCKDEP,
            "WARNING: HARDIRQ",
        ),
        (
            "INFO: rcu_tasks detected stalls on tasks:",
            K.RCU_STALL,
            "INFO: rcu_tasks detected stalls",
        ),
        (
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-.... }",
            K.RCU_STALL,
            "INFO: rcu_preempt detected expedited stalls on CPUs/tasks",
        ),
        (
            "BUG: KASAN: double-free or invalid-free in f+0x1/0x2 [m]",
            K.KASAN,
            "BUG: KASAN: double-free or invalid-free",
        ),
        ("BUG: KMSAN: uninit-value in f+0x1/0x2 [m]", K.KMSAN, "BUG: KMSAN: uninit-value"),
        ("BUG: KFENCE: memory corruption in f+0x1/0x2 [m]", K.KFENCE, "BUG: KFENCE: memory"),
        (
            "softirq: huh, entered softirq 1 TIMER f with preempt_count 00000100",
            K.UNBALANCED,
            "softirq",
        ),
    ],
)
def test_a_first_line_says_what_kind_of_report_it_is(
    line: str, kind: ProblemKind, summary: str
) -> None:
    (problem,) = find(lines("before", line, "after"))
    assert problem.kind is kind
    assert problem.summary.startswith(summary)


@pytest.mark.parametrize(
    ("line", "process"),
    [
        ("BUG: scheduling while atomic: kworker/1:2/45/0x00000002", Process("kworker/1:2", 45)),
        (
            "INFO: task kworker/u4:1:33 blocked for more than 2 seconds.",
            Process("kworker/u4:1", 33),
        ),
        (
            "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [my task:7]",
            Process("my task", 7),
        ),
        ("WARNING: at f+0x1/0x2, CPU#0: a/b/9", Process("a/b", 9)),
    ],
)
def test_the_name_of_a_task_may_have_any_characters(line: str, process: Process) -> None:
    (problem,) = find(lines(line))
    assert problem.process == process


@pytest.mark.parametrize(
    "prefix", ["crash: ", " ", "\t", "not a ", "[x] "], ids=["name", "blank", "tab", "word", "tag"]
)
def test_a_modules_own_words_are_not_the_kernels(prefix: str) -> None:
    told = [record.text for name in WRITTEN for record in written(name)]
    assert find(lines(*(prefix + text for text in told))) == []


def test_a_record_of_several_lines_counts_as_one_record() -> None:
    (problem,) = find(
        lines(
            "before", "crash: init suspiciously returned 7, it should follow 0/-E convention\nmore"
        )
    )
    assert problem.records == (1, 2)


def test_as_a_dictionary_it_is_plain_json() -> None:
    for name in WRITTEN:
        for problem in find(written(name)):
            document = to_dict(problem)
            assert json.loads(json.dumps(document)) == document
            assert list(document)[:2] == ["kind", "summary"]
            assert {"function", "module", "file", "line", "records", "count"} <= set(document)


def test_kinds_are_spelled_in_json_as_the_kernel_spells_them() -> None:
    (problem,) = find(written("kasan_double_free_6.1"))
    document: dict[str, Any] = to_dict(problem)
    assert document["kind"] == "KASAN"
    assert document["process"] == {"comm": "insmod", "pid": 78}


TEXTS = [record.text for name in WRITTEN for record in written(name)]


@given(st.lists(st.sampled_from(TEXTS) | st.text(max_size=20), max_size=60))
def test_no_order_of_lines_makes_it_fail(texts: list[str]) -> None:
    records = lines(*texts)
    for problem in find(records):
        first, last = problem.records
        assert 0 <= first < last <= len(records)
        assert problem.count >= 1
        assert problem.summary


@given(st.sampled_from(TEXTS), st.integers(0, 200), st.text(max_size=30))
def test_no_mangled_line_makes_it_fail(text: str, at: int, more: str) -> None:
    assert isinstance(find(lines(text[:at] + more + text[at:], "9" * 5000, text)), list)
