"""What comes after the load and after the unload, and what is left behind, on a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.vm.test_verdicts import MODULES, texts, verdict

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("what", ["timer", "work"])
def test_a_timer_that_outlives_the_module_is_caught_after_the_unload(lkm: Any, what: str) -> None:
    module = verdict(lkm, MODULES / "late.c", f"what={what}")
    assert module["verdict"] == "panic"
    assert module["timings"]["unload"] is not None
    oops, panic = module["problems"]
    assert (oops["kind"], panic["kind"]) == ("oops", "panic")


def test_a_thread_that_outlives_the_module_is_caught_at_its_address(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "late.c", "what=kthread")
    assert module["verdict"] == "problem"
    (oops,) = [problem for problem in module["problems"] if problem["kind"] == "oops"]
    assert oops["address"] >= 0xFFFFFFFFC0000000
    assert oops["process"]["comm"] == "late_kthread"


def test_an_oops_after_init_ends_the_run_before_rmmod_can_hang(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "late.c", "what=oops_later")
    assert module["verdict"] == "problem"
    assert module["problems"][0]["function"] == "late_oops"
    assert module["timings"]["unload"] is None


def test_nothing_is_watched_with_settle_0(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "late.c", "what=timer", "ms=60000", "--settle", "0", code=0)
    assert module["timings"]["settle"] is None
    module = verdict(lkm, MODULES / "leaves.c", "what=proc", "--settle", "0", code=0)
    assert module["problems"] == []


def test_more_settle_time_sees_what_comes_later(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "late.c", "what=timer", "ms=600000", "--settle", "900")
    assert module["verdict"] == "panic"


@pytest.mark.parametrize(
    ("what", "ms", "kind", "function"),
    [
        # Within 64 ticks a timer has a slot of the wheel for itself: nobody else's is queued behind it.
        ("timer", 200, "panic", "__run_timers"),
        ("work", 200, "panic", "__run_timers"),
        ("heap_timer", 1000, "panic", "once_timer"),
        ("hrtimer", 1000, "panic", "once_hrtimer"),
        ("kthread", 1000, "problem", "once_kthread"),
    ],
)
def test_what_fires_once_and_is_forgotten_is_caught_by_an_unload_at_once(
    lkm: Any, what: str, ms: int, kind: str, function: str
) -> None:
    module = verdict(lkm, MODULES / "once.c", f"what={what}", f"ms={ms}", "forgets=1")
    assert (module["verdict"], module["at_once"]) == (kind, True)
    assert module["reason"].startswith("unloaded at once after its load: BUG: unable to handle")
    oops = module["problems"][0]
    assert (oops["kind"], oops["function"]) == ("oops", function)
    assert oops["source"]["file"].endswith("once.c")
    assert [text for text in texts(module) if text.startswith("once: ")][-1] == "once: starting"
    assert (module["timings"]["load"], module["params"]) == (None, {})


@pytest.mark.parametrize("what", ["timer", "hrtimer", "work", "kthread"])
def test_what_exit_takes_back_is_no_problem_however_early_that_is(lkm: Any, what: str) -> None:
    module = verdict(lkm, MODULES / "once.c", f"what={what}", code=0)
    assert (module["verdict"], module["problems"], module["at_once"]) == ("ok", [], False)


def test_an_hrtimer_that_still_waits_is_left_behind_with_its_function(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "once.c", "what=hrtimer", "ms=600000", "forgets=1")
    assert module["reason"] == "left a pending hrtimer whose function is gone behind"
    (problem,) = module["problems"]
    assert (problem["kind"], problem["function"]) == ("left-behind", "once_hrtimer")


def test_nothing_is_unloaded_at_once_with_settle_0(lkm: Any) -> None:
    words = ("what=timer", "forgets=1", "--settle", "0")
    assert verdict(lkm, MODULES / "once.c", *words, code=0)["verdict"] == "ok"


def test_a_tracked_module_is_unloaded_at_once_without_its_stubs(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "once.c", "what=timer", "ms=200", "forgets=1", "--track")
    assert (module["verdict"], module["at_once"]) == ("panic", True)
    assert module["problems"][0]["source"]["file"].endswith("once.c")


@pytest.mark.parametrize("settle", ["-1", "nan", "1e9"])
def test_a_settle_time_that_makes_no_sense_is_refused(lkm: Any, settle: str) -> None:
    done = lkm("run", "--settle", settle, str(EXAMPLES / "hello"))
    assert done.returncode == 2
    assert "give seconds, 0 to 86400" in done.stderr


@pytest.mark.parametrize(
    ("what", "summary"),
    [
        ("proc", "left /proc/leaves_proc behind"),
        ("debugfs", "left /sys/kernel/debug/leaves_debugfs behind"),
        ("kobject", "left /sys/kernel/leaves_kobject behind"),
        ("chrdev", "left the device number 243 (leaves_chrdev) behind"),
        ("cache", "left the slab cache leaves_cache behind"),
        ("netdev", "left the network device leaves0 behind (also "),
        ("kthread", "left the kthread leaves_kthread (pid "),
    ],
)
def test_what_is_left_behind_is_named(lkm: Any, what: str, summary: str) -> None:
    module = verdict(lkm, MODULES / "leaves.c", f"what={what}")
    assert module["verdict"] == "problem"
    (problem,) = module["problems"]
    assert problem["kind"] == "left-behind"
    assert problem["summary"].startswith(summary)
    assert module["reason"] == problem["summary"]


def test_what_a_failing_init_leaves_behind_is_named_with_the_errno(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "leaves.c", "what=proc", "fails=1")
    assert (module["verdict"], module["errno"]) == ("problem", "ENODEV")
    assert module["reason"] == "left /proc/leaves_proc behind"


def test_modules_that_were_loaded_first_are_not_left_behind(lkm: Any) -> None:
    assert verdict(lkm, MODULES / "needs_dep.c", code=0)["problems"] == []
