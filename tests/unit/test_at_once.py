"""What an unload at once says of a module whose run was clean. The machine is made up."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, cast

import pytest

from lkm.at_once import found_at_once
from lkm.end import End
from lkm.ko import KernelObject
from lkm.log import Record
from lkm.machine import Guest, Needs, Outcome
from lkm.remains import fires_later
from lkm.rig import Limits
from lkm.targets import Target
from lkm.verdict import ModuleRun, Timings, Verdict

CLEAN = ModuleRun("once", Verdict.OK, params={"ms": "5"}, timings=Timings(build=1.0, load=0.1))
OOPS = "BUG: kernel NULL pointer dereference, address: 0000000000000008"


def outcome(end: End = End.DONE, error: int = 0, *texts: str) -> Outcome:
    return Outcome(end, error, tuple(Record(None, 0.0, None, 0, text) for text in texts), 3.0)


class Made:
    """A guest on which the load and the unload, and the time after them, end as it is told."""

    def __init__(
        self, load: Outcome, unload: Outcome | None = None, after: Outcome | None = None
    ) -> None:
        self.pair = load, unload
        self.after = after
        self.asked: list[Any] = []

    def ping(self) -> None:
        """It is there."""

    def load_needs(self, needs: Needs) -> None:
        self.asked.append(needs)

    def in_and_out(
        self, name: str, image: bytes, arguments: str = "", *, timeout: float | None = None
    ) -> tuple[Outcome, Outcome | None]:
        self.asked.append((name, image, arguments, timeout))
        return self.pair

    def settle(
        self, seconds: float | None = None, areas: int = 0, *, timeout: float | None = None
    ) -> Outcome:
        self.asked.append((seconds, areas))
        assert self.after
        return self.after


def found(machine: Made, tmp_path: Path) -> ModuleRun | None:
    image = tmp_path / "once.ko"
    image.write_bytes(b"object")
    target = Target(KernelObject("once", "EM_X86_64", 64, has_exit=True), image, image)
    guest = cast("Guest", machine)
    return found_at_once(CLEAN, target, Needs(), guest, "ms=5", Limits(7.0, 3.0))


def test_what_goes_wrong_after_it_is_the_run(tmp_path: Path) -> None:
    machine = Made(outcome(), outcome(End.DONE, 0, "bye"), outcome(End.PANIC, 0, OOPS))
    run = found(machine, tmp_path)
    assert run
    assert (run.verdict, run.at_once, run.params) == (Verdict.PANIC, True, {"ms": "5"})
    assert run.reason == f"unloaded at once after its load: {OOPS}"
    assert [record.text for record in run.log] == ["bye", OOPS]
    assert (run.timings.build, run.timings.load, run.timings.unload) == (1.0, None, 3.0)
    assert machine.asked == [Needs(), ("once", b"object", "ms=5", 7.0), (3.0, 0)]


def test_a_hang_after_an_oops_is_told_by_the_oops(tmp_path: Path) -> None:
    run = found(Made(outcome(), outcome(), outcome(End.HUNG, 0, OOPS)), tmp_path)
    assert run
    assert (run.verdict, run.reason) == (Verdict.HUNG, f"unloaded at once after its load: {OOPS}")


def test_a_hang_without_a_word_is_told_as_that(tmp_path: Path) -> None:
    run = found(Made(outcome(), outcome(End.HUNG)), tmp_path)
    assert run
    assert run.reason == "unloaded at once after its load: once's exit did not return within 3 s"


@pytest.mark.parametrize(
    "machine",
    [
        Made(outcome(), outcome(), outcome()),
        Made(outcome(), outcome(End.DONE, errno.EBUSY)),
        Made(outcome(End.DONE, errno.EAGAIN)),
    ],
    ids=["nothing", "refused unload", "refused load"],
)
def test_the_clean_run_stays_where_nothing_goes_wrong(machine: Made, tmp_path: Path) -> None:
    assert found(machine, tmp_path) is None


@pytest.mark.parametrize(
    "name",
    [
        "add_timer_on", "mod_timer", "hrtimer_start_range_ns", "hrtimer_start_range_ns_user", "alarm_start",
        "queue_work_on", "queue_delayed_work_on", "__tasklet_hi_schedule", "irq_work_queue", "call_rcu_hurry",
        "kthread_create_on_node", "kthread_queue_work",
    ],
)  # fmt: skip
def test_a_module_that_starts_something_can_fire_later(name: str) -> None:
    assert fires_later(("_printk", name))


def test_a_module_that_only_stops_or_waits_cannot() -> None:
    names = (
        "_printk", "timer_delete_sync", "hrtimer_cancel", "cancel_work_sync", "kthread_stop", "kvfree_call_rcu",
        "async_schedule_node", "msleep", "synchronize_rcu", "proc_create", "init_timer_key",
    )  # fmt: skip
    assert not fires_later(names)
