"""What a failed call is called, and the page that shows it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lkm import code
from lkm.errors import MachineError
from lkm.faults.campaign import Campaign, Faults, Subject
from lkm.faults.fault import Fault, Result, judged
from lkm.faults.html import page
from lkm.interpose.report import Call, Site
from lkm.interpose.rules import Fail, Rule
from lkm.problems import Problem, ProblemKind
from lkm.verdict import ModuleRun, Verdict

CALL = Call(Rule("__kmalloc_noprof", fail=Fail.VALUE), Site("f_init", 0x20, 0xFF0, "f"), "init")


def problem(kind: ProblemKind) -> Problem:
    return Problem(
        kind, f"a {kind}", None, None, None, None, None, None, None, None, "", (), (0, 0)
    )


@pytest.mark.parametrize(
    ("verdict", "kinds", "result"),
    [
        (Verdict.LOAD_FAILED, [], Result.HANDLED),
        (Verdict.OK, [], Result.SUCCESS),
        (Verdict.PROBLEM, [ProblemKind.LEAK], Result.LEAK),
        (Verdict.PROBLEM, [ProblemKind.LEAK, ProblemKind.OOPS], Result.OOPS),
        (Verdict.PROBLEM, [ProblemKind.LEFT_BEHIND, ProblemKind.LEAK], Result.LEAK),
        (Verdict.PROBLEM, [ProblemKind.LEFT_BEHIND], Result.LEFT_BEHIND),
        (Verdict.PROBLEM, [ProblemKind.LOCK_HELD], Result.LOCK_HELD),
        (Verdict.PROBLEM, [ProblemKind.WARNING], Result.PROBLEM),
        (Verdict.HUNG, [], Result.HANG),
        (Verdict.PANIC, [ProblemKind.PANIC], Result.PANIC),
        (Verdict.UNLOAD_FAILED, [], Result.STILL_LOADED),
    ],
)
def test_a_fault_is_called_by_the_worst_of_it(
    verdict: Verdict, kinds: list[ProblemKind], result: Result
) -> None:
    run = ModuleRun("f", verdict, "why", errno="ENOMEM", problems=tuple(map(problem, kinds)))
    fault = judged(3, run, CALL, ("/x/f.c", 7))
    assert (fault.result, fault.call, fault.function) == (result, "kmalloc", "f_init")
    assert (fault.reason is not None) == fault.result.is_bad


def test_a_call_that_was_not_made_is_not_handled() -> None:
    fault = judged(9, ModuleRun("f", Verdict.OK), None, None)
    assert (fault.result, fault.call) == (Result.NOT_REACHED, None)


def test_a_fault_survives_json() -> None:
    fault = judged(1, ModuleRun("f", Verdict.LOAD_FAILED, errno="ENOMEM"), CALL, ("f.c", 1))
    assert Fault.from_dict(fault.to_dict()) == fault


def test_the_page_shows_the_source_and_lets_nothing_out_of_it(tmp_path: Path) -> None:
    source = tmp_path / "f.c"
    source.write_text('int a;\nx = "<script>alert(1)</script>";\n')
    fault = Fault(1, "kmalloc", "f", str(source), 2, "init", Result.LEAK, None, "<b>left</b>")
    subject = cast("Any", SimpleNamespace(
        target=SimpleNamespace(name="f<i>"), kernel=SimpleNamespace(release="6.12"),
    ))  # fmt: skip
    handled = replace(fault, n=2, result=Result.HANDLED, test="t.py::test[<b>]")
    text = page(Faults(subject, (fault, handled), 2))
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "#1 kmalloc fails in init: leak" in text
    assert "1 dealt with" in text
    assert "t.py::test[&lt;b&gt;]" in text


def test_a_result_of_another_lkm_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "f.ko"
    image.write_bytes(b"object")
    given = SimpleNamespace(image=image, identity="kernel")

    def key() -> str:
        return Subject(
            cast("Any", given), cast("Any", None), cast("Any", given), cast("Any", given)
        ).key

    ours = key()
    assert key() == ours
    monkeypatch.setattr(code, "identity", lambda: "another")
    assert key() != ours


@pytest.mark.parametrize("first", [Result.HANG, MachineError("it broke", stage="restore")])
def test_a_hang_and_a_broken_machine_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, first: Result | MachineError
) -> None:
    outcomes = [first, Result.HANDLED]

    def fail(self: Campaign, n: int) -> Fault:
        outcome = outcomes.pop(0)
        if isinstance(outcome, MachineError):
            raise outcome
        return Fault(n, "kmalloc", "f_init", None, None, "init", outcome)

    monkeypatch.setattr(Campaign, "_fail", fail)
    monkeypatch.setattr(Campaign, "_machines", contextlib.nullcontext)
    assert Campaign(cast("Any", None)).only(1).faults[0].result is Result.HANDLED
    assert not outcomes


def test_a_hang_that_comes_again_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = Fault(1, "kmalloc", "f_init", None, None, "init", Result.HANG)
    monkeypatch.setattr(Campaign, "_fail", lambda self, n: hang)
    monkeypatch.setattr(Campaign, "_machines", contextlib.nullcontext)
    assert Campaign(cast("Any", None)).only(1).faults == (hang,)
