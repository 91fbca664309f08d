"""`lkm faults --exercise-test`: what is asked of pytest and what it answers, without a machine."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lkm import proc
from lkm.end import End
from lkm.errors import (
    HostError,
    LkmError,
    MachineError,
    ModuleFailure,
    UsageError,
    errno_name,
)
from lkm.faults.by_tests import ByTests
from lkm.faults.campaign import Subject, few
from lkm.faults.fault import Fault, Result
from lkm.faults.job import Counted, Job, Wanted
from lkm.faults.kept import Kept
from lkm.faults.stubbed import Stubbed
from lkm.interpose.report import PREFIX
from lkm.log import Record
from lkm.machine import Outcome
from lkm.verdict import Stages, judge
from lkm.vm.kernel_log import KernelLog
from lkm.vm.rootfs import Rootfs

PASSED = Counted("t.py::test", "passed", loads=((0, 1, 1), (2,)), reached=(0, 2))
SITES = ["a", "b", "c"]


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ByTests:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "t.py").write_text("def test(): pass\n")
    subject = SimpleNamespace(
        key="k", target=SimpleNamespace(name="drv"), timeout=10.0, sites=SITES
    )
    return ByTests(cast("Subject", subject), "drv.c", str(tmp_path / "t.py"), "6.12")


def answering(
    monkeypatch: pytest.MonkeyPatch,
    *counted: Counted,
    fault: LkmError | None = None,
    returncode: int = 0,
) -> list[Wanted]:
    """Have pytest answer so: with what was counted, then a fault for each call, or with an error."""
    asked: list[Wanted] = []

    def run(self: ByTests, job: Job, path: Path) -> proc.Finished:
        for wanted in job.wanted or ():
            asked.append(wanted)
            if fault:
                job.say("broken", {"error": pickle.dumps(fault).hex()})
            else:
                made = Fault(wanted.n, "kmalloc", "f", "f.c", 1, "init", Result.HANDLED)
                job.say("fault", made.to_dict())
        if job.wanted is None:
            for each in counted:
                job.say("counted", each.to_dict())
        return proc.Finished((), returncode, "ERROR: not found: x", 0.0)

    monkeypatch.setattr(ByTests, "_pytest", run)
    return asked


def test_a_job_and_an_answer_survive_their_files(tmp_path: Path) -> None:
    job = Job("s", "m", 1.0, str(tmp_path / "answer"), 2.0, (Wanted(1, "t", 0, 1),))
    job.write(tmp_path / "job")
    assert Job.read(str(tmp_path / "job")) == job
    assert not list(job.answers())
    job.say("counted", PASSED.to_dict())
    with (tmp_path / "answer").open("a") as file:
        file.write('{"half')
    ((kind, facts),) = job.answers()
    assert (kind, Counted.from_dict(facts)) == ("counted", PASSED)


def test_each_call_of_each_load_is_failed_once(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, PASSED)
    found = tested.all()
    assert [fault.n for fault in found.faults] == [1, 2, 3, 4]
    assert {(each.n, each.load, each.call) for each in asked} == {
        (1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 1),
    }  # fmt: skip
    assert found.counted == 4
    assert list(map(str, found.never)) == ["b"]


def test_what_is_known_is_not_run_again(tested: ByTests, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, PASSED)
    tested.all()
    first = len(asked)
    assert tested.all().faults
    assert len(asked) == first


def test_a_place_has_as_many_of_its_calls_failed_as_was_asked() -> None:
    assert list(few("abaab", 1)) == [1, 2]
    assert list(few("abaab", 2)) == [1, 2, 3, 5]
    assert list(few("aba", None)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("counted", "error", "said"),
    [
        (Counted("t", "failed", "AssertionError: no"), ModuleFailure, "t fails before any call is failed"),
        (Counted("t", "passed", problem="a leak"), ModuleFailure, "drv has a problem in t before any"),
        (Counted("t", "passed", others=("hello",)), UsageError, "does not load drv: it loads hello"),
        (Counted("t", "passed"), UsageError, "does not load drv: it loads no module"),
        (Counted("t", "skipped", "not today"), UsageError, "t is skipped: not today"),
    ],
)  # fmt: skip
def test_a_test_that_shows_nothing_is_an_error(
    tested: ByTests,
    monkeypatch: pytest.MonkeyPatch,
    counted: Counted,
    error: type[LkmError],
    said: str,
) -> None:
    answering(monkeypatch, counted)
    with pytest.raises(error, match=said):
        tested.all()


def test_a_skipped_test_among_others_is_passed_over(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, Counted("s", "skipped", "not today"), PASSED)
    assert len(tested.all().faults) == 4


@pytest.mark.parametrize(
    ("returncode", "said"), [(4, "pytest finds no test"), (2, "before it ran a test")]
)
def test_a_pytest_that_runs_nothing_says_why(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch, returncode: int, said: str
) -> None:
    answering(monkeypatch, returncode=returncode)
    with pytest.raises(UsageError, match=said) as caught:
        tested.all()
    assert "not found: x" in str(caught.value)


def test_without_pytest_it_says_what_to_install(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = proc.Finished((), 1, "/usr/bin/python3: No module named pytest", 0.0)
    monkeypatch.setattr(ByTests, "_pytest", lambda *_: said)
    with pytest.raises(HostError, match="pytest is not installed") as caught:
        tested.all()
    assert caught.value.hint == "pip install 'lkm[pytest]'"


def test_what_was_done_before_an_interrupt_is_kept(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, PASSED)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    whole = ByTests._complete
    monkeypatch.setattr(ByTests, "_complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tested.all()
    first = len(asked)
    assert first
    monkeypatch.setattr(ByTests, "_complete", whole)
    assert len(tested.all().faults) == 4
    assert len(asked) == first


def test_what_the_infrastructure_did_is_no_result(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, PASSED, fault=MachineError("it broke", stage="restore"))
    with pytest.raises(MachineError, match="it broke"):
        tested.all()


def test_a_pytest_that_ends_early_is_no_result(
    tested: ByTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, PASSED)
    run = ByTests._pytest

    def dies(self: ByTests, job: Job, path: Path) -> proc.Finished:
        done = run(self, job, path)
        if job.wanted:
            Path(job.answer).write_text("")
        return done

    monkeypatch.setattr(ByTests, "_pytest", dies)
    with pytest.raises(HostError, match="pytest ended after 0 of 4 runs"):
        tested.all()
    assert asked


def test_a_result_that_may_be_another_next_time_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    kept = Kept("key")
    for n, result in enumerate((Result.LEAK, Result.HANG, Result.NOT_REACHED), 1):
        kept.keep(Fault(n, "kmalloc", "f", "f.c", 1, "init", result))
    assert list(kept.among(range(1, 4))) == [1]


def record(text: str, time: float) -> Record:
    return Record(seq=int(time), time=time, level="info", facility=0, text=text)


def test_what_stubs_say_is_not_in_a_tests_log() -> None:
    log = KernelLog(cast("Any", None), lambda: False)
    log.aside_of = PREFIX
    log._keep([record("drv: hello", 1.0), record(f"{PREFIX}total 3", 2.0)])
    log.end(b"[    3.000000] drv: bye\n")
    assert [each.text for each in log.records] == ["drv: hello", "drv: bye"]
    assert [each.text for each in log.aside] == [f"{PREFIX}total 3"]


def test_a_timeout_that_a_test_sets_is_the_machines() -> None:
    machine = SimpleNamespace(timeout=30.0, kernel_log=SimpleNamespace(aside_of=None), state="x")
    stubbed = Stubbed(cast("Any", machine), cast("Any", None), "drv", cast("Any", None))
    stubbed.timeout = 5.0
    assert machine.timeout == 5.0
    assert stubbed.as_machine.state == "x"
    assert machine.kernel_log.aside_of == PREFIX


def test_a_place_in_lkms_own_module_is_not_at_fault() -> None:
    load = Outcome(End.DONE, 0, (), 0.0)
    stacks = "[<0>] lkm_gate+0xa6/0xc0 [lkm_interpose]\n[<0>] drv_read+0x1d/0x70 [drv]\n"
    hangs = Outcome(End.HUNG, 0, (), 10.0, stacks=stacks)
    (problem,) = judge("drv", Stages(load, after_load=hangs)).problems
    assert (problem.function, problem.module) == ("drv_read", "drv")


def test_both_root_file_systems_are_in_a_machine_and_in_its_identity() -> None:
    packages = Rootfs("strace", (Path("/a"),), "1")
    both = packages.with_more(Rootfs("lkm_interpose", (Path("/b"),), "2"))
    assert both.directories == (Path("/a"), Path("/b"))
    assert both.identity not in ("1", "2")


def test_errnos_that_only_the_kernel_has_get_their_names() -> None:
    assert [errno_name(number) for number in (512, 517, 524, 4000)] == [
        "ERESTARTSYS", "EPROBE_DEFER", "ENOTSUPP", "errno 4000",
    ]  # fmt: skip


def test_an_errno_of_two_names_has_the_one_that_modules_are_written_with() -> None:
    assert [errno_name(number) for number in (11, 35, 95)] == ["EAGAIN", "EDEADLK", "EOPNOTSUPP"]
