"""What a verdict says of a module that does not return, and of a guest that went down. No kernel."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from lkm.end import End
from lkm.log import Record
from lkm.machine import Outcome
from lkm.problems import ProblemKind
from lkm.verdict import Stages, Verdict, judge

STACK = "[<0>] msleep+0x2b/0x40\n[<0>] hang_sleeping+0x15/0x20 [hangs]\n[<0>] hangs_init+0x40/0x40 [hangs]\n"


def outcome(end: End, *, stacks: str = "", how: str = "", texts: tuple[str, ...] = ()) -> Outcome:
    records = tuple(Record(None, 0.0, None, 0, text) for text in texts)
    return Outcome(end, 0, records, 3.0, stacks=stacks, how=how)


def test_the_modules_function_on_the_stack_is_where_it_hangs() -> None:
    judged = judge("hangs", Stages(outcome(End.HUNG, stacks=STACK)))
    assert judged.verdict is Verdict.HUNG
    assert judged.reason == "hangs's init did not return within 3 s; it is in hang_sleeping [hangs]"
    (problem,) = judged.problems
    assert (problem.kind, problem.function) == (ProblemKind.HUNG, "hang_sleeping")
    assert len(problem.trace) == 3


def test_a_kernel_that_says_nothing_at_all_is_hung_at_the_processors_address() -> None:
    judged = judge("hangs", Stages(outcome(End.HUNG, stacks="0xffffffffc0201056\n")))
    assert judged.reason == "hangs's init did not return within 3 s"
    assert judged.problems[0].address == 0xFFFFFFFFC0201056


@pytest.mark.parametrize("stacks", ["", "\n", "no stack", "[<0>]", "0x\n" * 3])
def test_a_stack_that_says_nothing_leaves_it_open(stacks: str) -> None:
    judged = judge("hangs", Stages(outcome(End.DONE), unload=outcome(End.HUNG, stacks=stacks)))
    assert judged.reason == "hangs's exit did not return within 3 s"
    assert judged.problems[0].function is None


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("guest-reset", "the guest reset itself in ends's init: a restart, or a triple fault"),
        ("guest-shutdown", "the guest powered itself off in ends's init"),
        ("", "the guest went down in ends's init"),
        ("something-new", "the guest went down in ends's init"),
    ],
)
def test_a_guest_that_went_down_without_a_word_is_told_as_qemu_has_it(
    how: str, reason: str
) -> None:
    judged = judge("ends", Stages(outcome(End.PANIC, how=how)))
    assert (judged.verdict, judged.reason) == (Verdict.PANIC, reason)


def test_each_stage_has_its_name() -> None:
    done, hung = outcome(End.DONE), outcome(End.HUNG)
    names = [
        Stages(hung).last,
        Stages(done, reading=hung).last,
        Stages(done, after_load=hung).last,
        Stages(done, after_load=done, unload=hung).last,
        Stages(done, unload=done, after_unload=hung).last,
    ]
    assert names == [
        "init", "parameter callback", "the time after its init", "exit", "the time after its exit",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((), "insmod: EINVAL: lime's init returned it"),
        (
            ("lime: loading out-of-tree module taints kernel.",),
            "insmod: EINVAL: lime's init returned it",
        ),
        (("lime: Unknown symbol f (err -22)",), "insmod: EINVAL: Unknown symbol f (err -22)"),
    ],
)
def test_einval_is_the_inits_own_where_the_loader_says_nothing(
    texts: tuple[str, ...], reason: str
) -> None:
    load = replace(outcome(End.DONE, texts=texts), errno=errno.EINVAL)
    judged = judge("lime", Stages(load))
    assert (judged.verdict, judged.reason) == (Verdict.LOAD_FAILED, reason)
