"""Modules that do not return, that end the machine, and that stay: what lkm says, on a real kernel."""

from __future__ import annotations

from typing import Any

import pytest
from tests.vm.test_verdicts import MODULES, texts, verdict

import lkm as library
from lkm.errors import ModuleFailure

pytestmark = pytest.mark.vm


@pytest.mark.parametrize(
    ("what", "where", "function"),
    [
        ("irqs_off", "init", "loop"),
        ("preempt_off", "exit", "loop"),
        ("waiting", "init", "hang_waiting"),
        ("mutex", "init", "hang"),
        ("sleeping", "exit", "hang_sleeping"),
        ("spinlock", "init", "hang"),
        ("kthread", "exit", "hang"),
        ("sleeping", "read", "hang_sleeping"),
        ("irqs_off", "read", "loop"),
    ],
)
def test_what_does_not_return_is_hung_with_the_modules_function(
    lkm: Any, what: str, where: str, function: str
) -> None:
    words = (f"what={what}", f"where={where}", "--timeout", "1.5")
    module = verdict(lkm, MODULES / "hangs.c", *words)
    assert module["verdict"] == "hung"
    (hung,) = [problem for problem in module["problems"] if problem["kind"] == "hung"]
    assert hung["module"] == "hangs"
    assert hung["function"].startswith(function)
    assert hung["trace"]
    assert f"it is in {hung['function']} [hangs]" in module["reason"]
    if where == "read":
        assert "parameter callback" in module["reason"]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("triple_fault", "the guest reset itself in ends's init: a restart, or a triple fault"),
        ("restart", "the guest reset itself in ends's init: a restart, or a triple fault"),
        ("cf9", "the guest reset itself in ends's init: a restart, or a triple fault"),
        ("keyboard", "the guest reset itself in ends's init: a restart, or a triple fault"),
        ("power", "the guest powered itself off in ends's init"),
    ],
)
def test_a_module_that_ends_the_machine_is_a_panic_with_its_last_words(
    lkm: Any, what: str, reason: str
) -> None:
    module = verdict(lkm, MODULES / "ends.c", f"what={what}")
    assert (module["verdict"], module["reason"]) == ("panic", reason)
    assert f"ends: ending by {what}" in texts(module)


def test_a_machine_that_falls_silent_is_hung(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "ends.c", "what=halt", "--timeout", "1.5")
    assert module["verdict"] == "hung"
    assert "it is in end_by_halt [ends]" in module["reason"]


def test_a_module_that_holds_itself_is_told_with_its_reference_count(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "leaves.c", "what=reference")
    assert module["verdict"] == "unload-failed"
    assert "its reference count is 1" in module["reason"]


def test_a_write_that_does_not_return_is_the_modules_failure() -> None:
    with library.kernel().machine(timeout=2) as vm:
        module = vm.insmod(MODULES / "hangs.c", what="sleeping", where="write")
        with pytest.raises(ModuleFailure, match="the write of a file did not return") as failure:
            module.params["trigger"].write("1")
    assert any("hang_sleeping" in line for line in failure.value.evidence)
