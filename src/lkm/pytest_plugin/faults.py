"""How `lkm faults --exercise-test` runs a test: once to count, then once for each call that fails.

pytest's `--lkm-faults FILE` begins it, for a `lkm.faults.job.Job`. The fixtures here stand before those of the
same names that tests otherwise get.
"""

from __future__ import annotations

import _thread
import copy
import pickle
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from lkm.errors import LkmError, errno_name
from lkm.faults.job import Counted, Job, Wanted
from lkm.interpose.rules import NOTHING, Plan
from lkm.pytest_plugin.session import Session
from lkm.pytest_plugin.settings import Settings, settings_of
from lkm.pytest_plugin.tracebacks import is_infrastructure, told
from lkm.pytest_plugin.trial import NEXT, TRIAL, Trial, log_of

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel
    from lkm.api.vm import VM
    from lkm.faults.aftermath import Aftermath
    from lkm.faults.campaign import Subject
    from lkm.faults.fault import Fault
    from lkm.faults.stubbed import Stubbed
    from lkm.interpose.report import Call, Report, Site
    from lkm.vm.snapshot import Snapshot as Frozen

__all__ = ["begin"]

_MEANT = ("ok", "load-failed")
"""Verdicts that a test which passes may mean to have."""
_COUNT = Plan(record=True, faults=True)


@dataclass
class Bench:
    """What all the runs have in common: the job, and what is known of the kernel that the first one named."""

    job: Job
    errors: list[BaseException] = field(default_factory=list)
    places: dict[tuple[str, Site, str], int] = field(default_factory=dict)
    wanted: Wanted | None = None
    kernel: Kernel | None = None

    @cached_property
    def subject(self) -> Subject:
        """The module, for that kernel."""
        from lkm.faults.campaign import subject_of

        assert self.kernel
        return subject_of(
            self.job.source, self.kernel.facts, module=self.job.module, timeout=self.job.timeout
        )

    def number(self, call: Call) -> int:
        """What stands for the place and the phase of a call, in all tests of this process."""
        return self.places.setdefault((call.rule.name, call.site, call.phase), len(self.places))


BENCH = pytest.StashKey[Bench]()
WANTED = pytest.StashKey[Wanted]()


def begin(config: pytest.Config, path: str) -> None:
    """Have the tests of this process run as the job in the file wants it."""
    config.stash[BENCH] = Bench(Job.read(path))
    config.pluginmanager.register(sys.modules[__name__], "lkm-faults")


class WatchedSession(Session):
    """Its machines have `lkm_interpose` in them."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def frozen(self, kernel: Kernel, settings: Settings) -> Frozen:
        """What the machines for such tests are restored from."""
        self._bench.kernel = self._bench.kernel or kernel
        rootfs = self._bench.subject.tracker.rootfs
        return kernel.frozen(memory=settings.memory, packages=settings.packages, extra=rootfs)


@dataclass
class WatchedTrial(Trial):
    """One run of a test. After `finish` it has what came of it, for each machine that had the module."""

    bench: Bench = field(kw_only=True)
    stubbed: list[tuple[VM, Stubbed]] = field(default_factory=list)
    aftermaths: list[Aftermath] = field(default_factory=list)

    def machine(self, kernel: Kernel, settings: Settings) -> VM:
        """A machine that ends with the test, on which the module gets its stubs."""
        from lkm.faults.stubbed import Stubbed

        made = super().machine(kernel, settings)
        tracker, name = self.bench.subject.tracker, self.bench.job.module
        stubbed = Stubbed(made.machine, tracker, name, self._plan)
        twin = made.history.twin
        made.history.twin = lambda: Stubbed(twin(), tracker, name, lambda: NOTHING).as_machine
        made.machine = stubbed.as_machine
        self.stubbed.append((made, stubbed))
        return made

    def _plan(self) -> Plan:
        """For the next load, on whichever machine."""
        wanted = self.bench.wanted
        if wanted is None:
            return _COUNT
        at = sum(len(machine.loads) for _, machine in self.stubbed)
        return Plan(fail=wanted.call if at == wanted.load else 0, faults=True)

    def finish(self) -> None:
        """Unload what is loaded, look what the module has left, and end the machines."""
        try:
            for vm, machine in self.stubbed:
                log_of(vm)  # which finds out whether it is dead
                if machine.loads:
                    self.aftermaths.append(self._aftermath(vm, machine))
        finally:
            self.close()

    def _aftermath(self, vm: VM, machine: Stubbed) -> Aftermath:
        from lkm.faults.aftermath import aftermath

        name = self.bench.job.module
        users = [module.name for where, module in self.loaded if where is vm]
        return aftermath(
            machine,
            self.bench.subject.target,
            vm.history.decode,
            timeout=self.bench.job.timeout,
            evidence=[line for error in map(told, self.bench.errors) if error for line in error.evidence],
            users=[each for each in reversed(users) if each != name],
            with_programs=vm.history.has_run,
            knows_allocations=vm.kernel.facts.knows_allocations,
        )  # fmt: skip


@pytest.fixture(scope="session", name="_lkm_session")
def lkm_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """What the tests of this process share."""
    session = WatchedSession(request.config.stash[BENCH])
    yield session
    session.close()


@pytest.fixture(name="_lkm_trial")
def lkm_trial(request: pytest.FixtureRequest, _lkm_session: Session) -> Iterator[Trial]:
    """The test's machines."""
    bench = request.config.stash[BENCH]
    settings = settings_of(request.node)
    limited = replace(settings, timeout=settings.timeout or bench.job.timeout)
    trial = WatchedTrial(_lkm_session, limited, bench=bench)
    request.node.stash[TRIAL] = trial
    yield trial
    trial.finish()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have each test as often as the job wants it."""
    wanted = config.stash[BENCH].job.wanted
    if wanted is None:
        return
    by_id = {item.nodeid: item for item in items}
    items[:] = [_again(by_id[each.test], each) for each in wanted if each.test in by_id]


def _again(item: Any, wanted: Wanted) -> pytest.Item:
    again: Any = copy.copy(item)
    again.stash = pytest.Stash()
    again.stash[WANTED] = wanted
    again._initrequest()  # noqa: SLF001 - as _pytest.runner does for a test that is run again
    found: pytest.Item = again
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test, and answer with what came of it."""
    bench = item.config.stash[BENCH]
    bench.wanted = item.stash.get(WANTED, None)
    try:
        if bench.wanted is None:
            bench.job.say("counted", _counted(item, nextitem, bench).to_dict())
        else:
            bench.job.say("fault", _failed(item, nextitem, bench).to_dict())
    except LkmError as error:
        bench.job.say("broken", {"error": pickle.dumps(error).hex()})
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a test raises."""
    if call.excinfo is not None:
        item.config.stash[BENCH].errors.append(call.excinfo.value)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """End a test that waits for what a failed call has prevented."""
    limit = item.config.stash[BENCH].job.limit
    if not limit:
        return (yield)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _thread.interrupt_main()

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    except KeyboardInterrupt:
        if not expired.is_set():
            raise
        pytest.fail(f"was not over after {limit:.0f} s")
    finally:
        timer.cancel()


def _run(
    item: pytest.Item, nextitem: pytest.Item | None, bench: Bench
) -> tuple[WatchedTrial | None, list[pytest.TestReport]]:
    """Run it once. Raises what is neither the test's nor the module's doing."""
    from _pytest.runner import runtestprotocol

    bench.errors.clear()
    item.stash[NEXT] = None
    if TRIAL in item.stash:
        del item.stash[TRIAL]
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for error in map(told, bench.errors):
        if error and is_infrastructure(error):
            raise error
    trial: Any = item.stash.get(TRIAL, None)
    return trial, reports


def _failed(item: pytest.Item, nextitem: pytest.Item | None, bench: Bench) -> Fault:
    from lkm.faults.campaign import twice

    return twice(lambda: _once(item, nextitem, bench))


def _once(item: pytest.Item, nextitem: pytest.Item | None, bench: Bench) -> Fault:
    from lkm.faults.fault import Fault, Result, judged

    wanted = bench.wanted
    assert wanted
    trial, _ = _run(item, nextitem, bench)
    for aftermath in trial.aftermaths if trial else ():
        if failed := next((each.failed for each in aftermath.reports if each.failed), None):
            run = replace(aftermath.run, errno=aftermath.run.errno or _errno(bench))
            fault = judged(wanted.n, run, failed, bench.subject.place_of(failed))
            return replace(fault, test=wanted.test)
    return Fault(wanted.n, None, None, None, None, None, Result.NOT_REACHED, test=wanted.test)


def _errno(bench: Bench) -> str | None:
    """What a system call of the test's gave, where that ended it."""
    for error in bench.errors:
        if isinstance(error, OSError) and error.errno:
            return errno_name(error.errno)
    return None


def _counted(item: pytest.Item, nextitem: pytest.Item | None, bench: Bench) -> Counted:
    started = time.monotonic()
    trial, reports = _run(item, nextitem, bench)
    bad = next((report for report in reports if report.outcome != "passed"), None)
    counted = Counted(
        item.nodeid,
        bad.outcome if bad else "passed",
        _reason(bench, bad),
        seconds=time.monotonic() - started,
    )
    if trial is None:
        return counted
    seen = [report for each in trial.aftermaths for report in each.reports]
    runs = [each.run for each in trial.aftermaths]
    return replace(
        counted,
        problem=next((run.reason for run in runs if run.verdict not in _MEANT), None),
        loads=tuple(tuple(map(bench.number, report.calls)) for report in seen),
        others=tuple(_others(trial, bench)),
        reached=tuple(_reached(seen, bench)),
    )


def _reason(bench: Bench, bad: pytest.TestReport | None) -> str | None:
    if bad is None:
        return None
    for error in bench.errors:
        text = error.summary if isinstance(error, LkmError) else str(error)
        first = next(iter(text.splitlines()), "")
        return f"{type(error).__name__}: {first}" if first else type(error).__name__
    return str(bad.longrepr).strip().splitlines()[-1]


def _others(trial: WatchedTrial, bench: Bench) -> Iterator[str]:
    """What was loaded that is not the module."""
    from lkm.ko import read_image

    ours = read_image(bench.subject.target.image)
    for _, machine in trial.stubbed:
        yield from machine.others
        for load in machine.loads:
            if load.image != ours:
                yield f"another {bench.job.module}"


def _reached(reports: list[Report], bench: Bench) -> list[int]:
    sites = bench.subject.sites
    found = {bench.subject.site_of(call) for report in reports for call in report.calls}
    return [at for at, site in enumerate(sites) if site in found]
