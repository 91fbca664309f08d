"""`lkm faults`: count the calls that can fail, then fail each of them on a machine of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lkm import code, proc
from lkm.errors import MachineError, ModuleFailure, UsageError
from lkm.faults.exercise import exercise
from lkm.faults.fault import Fault, Result, judged
from lkm.faults.kept import Kept
from lkm.interpose.fallible import FALLIBLE, fallible
from lkm.interpose.names import spoken
from lkm.interpose.report import Call, Report
from lkm.interpose.rewrite import CallSite, call_sites
from lkm.interpose.rules import Plan
from lkm.interpose.tracker import Tracker, tracker_for
from lkm.interpose.watch import Watched, watched_run
from lkm.kernels.kernel import Kernel
from lkm.ko import read_image
from lkm.machine import Machine
from lkm.problems import users_place
from lkm.progress import SILENT, Progress
from lkm.run import Limits, Rig, try_modules, twins
from lkm.sourcefiles import SourceFiles
from lkm.symbolize import DebugInfo, Location
from lkm.targets import Target, Targets, targets_of
from lkm.verdict import ModuleRun, Verdict
from lkm.vm.fresh import Fresh

__all__ = ["Campaign", "Faults", "Subject", "few", "subject_of", "twice"]

_TIMEOUT = 10.0
SCHEMA = 1


@dataclass(frozen=True)
class Subject:
    """The module whose calls are failed, of `targets`, and how it is used."""

    target: Target
    targets: Targets
    kernel: Kernel
    tracker: Tracker
    params: Mapping[str, str | None] = field(default_factory=dict)
    command: str | None = None
    timeout: float = _TIMEOUT

    @cached_property
    def info(self) -> DebugInfo:
        """Where its code comes from."""
        return DebugInfo(read_image(self.target.path), self.target.path.name)

    @cached_property
    def sites(self) -> list[CallSite]:
        """Its calls of functions that can fail."""
        data = read_image(self.target.path)
        names = [name for name in FALLIBLE if fallible(name, self.tracker.series)]
        return call_sites(data, self.target.path.name, names)

    @cached_property
    def key(self) -> str:
        """A digest of all that the results depend on, lkm's own code included."""
        parts = [
            code.identity(), self.kernel.identity, json.dumps(dict(self.params), sort_keys=True),
            self.command or "", str(self.timeout),
        ]  # fmt: skip
        digest = hashlib.sha256("\0".join(parts).encode())
        for path in (self.target.image, self.tracker.image):
            digest.update(read_image(path))
        return digest.hexdigest()[:24]

    def site_of(self, call: Call) -> CallSite | None:
        """The call in the object. One that ends its function jumps, and is found where it is the only one."""
        site = call.site
        if site.function and site.module == self.target.name:
            where = self.info.location(site.function, site.offset or 0, site.size)
            for each in self.sites:
                if (each.section, each.returns_to) == where and not each.tail:
                    return each
        tails = [each for each in self.sites if each.tail and each.function == call.rule.name]
        return tails[0] if len(tails) == 1 else None

    def place_of(self, call: Call) -> tuple[str, int] | None:
        """The file and line of a call."""
        site = self.site_of(call)
        return self.place_at(site) if site else None

    def place_at(self, site: CallSite) -> tuple[str, int] | None:
        """The file and line of a call in the object."""
        files = SourceFiles(self.targets, self.kernel)
        place = users_place(self.info.places_at(site.section, site.offset), files)
        return (files.path(place.file), place.line) if place and place.file and place.line else None


def subject_of(
    path: str | Path,
    kernel: Kernel,
    *,
    module: str | None = None,
    params: Mapping[str, str | None] | None = None,
    command: str | None = None,
    timeout: float = _TIMEOUT,
    progress: Progress = SILENT,
) -> Subject:
    """The module of `path` to try: the only one, or the one named `module`."""
    targets = targets_of(path, kernel, progress=progress)
    named = targets.named
    wanted = module.removesuffix(".ko").replace("-", "_") if module else None
    found = [each for each in named if wanted in (None, each.name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in named)
        what = f"no module {module!r} here" if module else f"{path} has {len(named)} modules"
        raise UsageError(what, hint=f"--module takes one of: {names}")
    tracker = tracker_for(kernel, progress=progress)
    return Subject(found[0], targets, kernel, tracker, params or {}, command, timeout)


@dataclass(frozen=True)
class Faults:
    """What came of it: faults in the calls' order, of `counted` calls, and the calls that no run reaches."""

    subject: Subject
    faults: tuple[Fault, ...]
    counted: int
    never: tuple[CallSite, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every failure was dealt with."""
        return not any(fault.result.is_bad for fault in self.faults)

    def never_reached(self) -> list[dict[str, Any]]:
        """The calls that were not made, with their places."""
        return [self._never(site) for site in self.never]

    def _never(self, site: CallSite) -> dict[str, Any]:
        file, line = self.subject.place_at(site) or (None, None)
        function = self.subject.info.function_at(Location(site.section, site.offset))
        return {
            "call": spoken(site.function),
            "function": function.name if function else None,
            "file": file,
            "line": line,
        }

    def to_dict(self) -> dict[str, Any]:
        """The document that `lkm faults --json` prints."""
        return {
            "schema": SCHEMA,
            "kernel": self.subject.kernel.release,
            "module": self.subject.target.name,
            "counted": self.counted,
            "faults": [fault.to_dict() for fault in self.faults],
            "never_reached": self.never_reached(),
        }


def few(places: Iterable[Hashable], per_place: int | None) -> Iterator[int]:
    """Of the calls at these places, from 1 on, the first so many of each place; all for None."""
    met: Counter[Hashable] = Counter()
    for n, place in enumerate(places, 1):
        met[place] += 1
        if per_place is None or met[place] <= per_place:
            yield n


def twice(work: Callable[[], Fault]) -> Fault:
    """A fault. A hang, and a machine that broke, are believed the second time: a busy computer looks so."""
    try:
        fault = work()
    except MachineError:
        return work()
    return work() if fault.result is Result.HANG else fault


class Campaign:
    """Runs of one subject, on machines that `make` gives; without it on fresh ones, several at a time."""

    def __init__(
        self, subject: Subject, *, make: Callable[[], Machine] | None = None,
        per_place: int | None = None, again: bool = False, progress: Progress = SILENT,
    ) -> None:  # fmt: skip
        self._subject = subject
        self._make = make
        self._per_place = per_place
        self._again = again
        self._progress = progress
        self._local = threading.local()
        self._fresh: list[Fresh] = []

    @property
    def _kept(self) -> Kept:
        return Kept(self._subject.key)

    def all(self) -> Faults:
        """Count, and fail each call that was counted.

        Raises ModuleFailure for a module that has a problem when nothing fails.
        """
        with self._machines():
            baseline, report = self._run(Plan(record=True, faults=True))
            self._require_clean(baseline)
            faults = self._each(list(few(report.calls, self._per_place)))
        reached = {self._subject.site_of(call) for call in report.calls}
        never = tuple(site for site in self._subject.sites if site not in reached)
        return Faults(self._subject, tuple(faults), report.total, never)

    def only(self, n: int) -> Faults:
        """Fail the n-th call alone. Raises UsageError where there are not so many."""
        with self._machines():
            fault = self._one(n)
        if fault.result is Result.NOT_REACHED:
            raise UsageError(
                f"call {n} of {self._subject.target.name} was not made",
                hint="without --only all that are made are listed",
            )
        return Faults(self._subject, (fault,), n)

    def _require_clean(self, baseline: ModuleRun) -> None:
        if baseline.verdict is not Verdict.OK:
            raise ModuleFailure(
                f"{baseline.name} has a problem before any call fails: {baseline.reason}",
                hint="lkm run --track SOURCE",
            )

    def _each(self, numbers: Sequence[int]) -> list[Fault]:
        self._progress.step(f"failing calls of {self._subject.target.name}")
        done = {} if self._again else self._kept.among(numbers)
        waiting = [n for n in numbers if n not in done]
        with ThreadPoolExecutor(proc.cores()) as pool:
            try:
                for future in as_completed([pool.submit(self._one, n) for n in waiting]):
                    fault = future.result()
                    done[fault.n] = fault
                    self._progress.amount(len(done), len(numbers), "calls")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [done[n] for n in numbers]

    def _one(self, n: int) -> Fault:
        return self._fail(n) if self._make else twice(lambda: self._fail(n))

    def _fail(self, n: int) -> Fault:
        result, report = self._run(Plan(fail=n, faults=True))
        place = self._subject.place_of(report.failed) if report.failed else None
        fault = judged(n, result, report.failed, place)
        if self._make is None:
            self._kept.keep(fault)
        return fault

    def _run(self, plan: Plan) -> tuple[ModuleRun, Report]:
        subject = self._subject
        between = exercise(subject.command, subject.timeout) if subject.command else None
        watched: list[Watched] = []
        reports: list[Report] = []

        def make(module: str = "") -> Machine:
            machine = self._make() if self._make else self._pool().machine()
            watched.append(
                Watched(machine, subject.tracker, plan, between, has_tracker=self._make is None)
            )
            return watched[-1].as_machine

        def with_report(run: ModuleRun) -> ModuleRun:
            # The last one: a module that has the kernel ask for others is tried again where they are.
            reports.append(watched[-1].report)
            return watched_run(run, reports[-1])

        rig = Rig(
            make,
            Limits(subject.timeout),
            where=None if self._make else twins(make, subject.kernel),
            judged=with_report,
        )
        (done,) = try_modules(
            subject.targets, subject.kernel, rig, params=subject.params, module=subject.target.name
        )
        return done, reports[0]

    def _pool(self) -> Fresh:
        """This thread's fresh machines."""
        if not hasattr(self._local, "fresh"):
            self._local.fresh = Fresh(
                self._subject.kernel, rootfs=self._subject.tracker.rootfs, progress=self._progress
            )
            self._fresh.append(self._local.fresh)
        fresh: Fresh = self._local.fresh
        return fresh

    @contextlib.contextmanager
    def _machines(self) -> Iterator[None]:
        try:
            yield
        finally:
            for fresh in self._fresh:
                fresh.close()
