"""`lkm faults --exercise-test`: the calls that can fail while a pytest test uses the module."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from lkm import proc
from lkm.errors import HostError, LkmError, ModuleFailure, UsageError
from lkm.faults.campaign import Faults, Subject, few
from lkm.faults.fault import Fault, Result
from lkm.faults.job import Counted, Job, Wanted
from lkm.faults.kept import Kept
from lkm.pool import working
from lkm.progress import SILENT, Progress

__all__ = ["ByTests"]

_LIMIT = 4 * 3600.0
"""Seconds that one pytest may take."""
_LOOK = 0.2
"""How often its answers are looked at, in seconds."""
_WAITS = 6
"""How many things in a test may each take the whole timeout, where a call failed."""
_GRACE = 5.0
"""Seconds that it has to end its machines when it is interrupted."""
_COLLECTED_NOTHING, _USAGE = 5, 4


class ByTests:
    """Runs of one subject in a pytest test, or in each of a file: `test` is a node id, as pytest takes it.

    pytest runs in the current directory. `source` is what the subject was made of, `kernel` its name for
    `--lkm-kernel`.
    """

    def __init__(
        self, subject: Subject, source: str | Path, test: str, kernel: str, *,
        per_place: int | None = None, again: bool = False, progress: Progress = SILENT,
    ) -> None:  # fmt: skip
        self._subject = subject
        self._source = os.fspath(Path(source).absolute())
        self._test = test
        self._kernel = kernel
        self._per_place = per_place
        self._again = again
        self._progress = progress
        self._limit = 0.0
        self._kept = Kept(_key(subject, test))

    def all(self) -> Faults:
        """Count, and fail each call that was counted.

        Raises UsageError for a test that there is not, or that does not load the module; ModuleFailure for
        one that fails, or finds the module to have a problem, before any call is failed.
        """
        counted = self._count()
        calls = list(_numbered(counted))
        numbers = few([place for _, place in calls], self._per_place)
        wanted = [calls[n - 1][0] for n in numbers]
        reached = {at for each in counted for at in each.reached}
        never = tuple(s for at, s in enumerate(self._subject.sites) if at not in reached)
        return Faults(self._subject, tuple(self._each(wanted)), len(calls), never)

    def only(self, n: int) -> Faults:
        """Fail the n-th call alone. Raises UsageError where there are not so many."""
        mine = [wanted for wanted, _ in _numbered(self._count()) if wanted.n == n]
        faults = self._run(mine) if mine else []
        if not faults or faults[0].result is Result.NOT_REACHED:
            raise UsageError(
                f"call {n} of {self._subject.target.name} was not made in {self._test}",
                hint="without --only all that are made are listed",
            )
        return Faults(self._subject, tuple(faults), n)

    def _count(self) -> list[Counted]:
        self._progress.step(f"counting calls in {self._test}")
        with tempfile.TemporaryDirectory(prefix="lkm-faults-") as made:
            job = self._job(Path(made) / "count")
            done = self._pytest(job, Path(made) / "count.json")
            counted = [Counted.from_dict(facts) for _, facts in _answers(job)]
        if not counted:
            raise _no_test(self._test, done)
        self._require_usable(counted)
        self._limit = _WAITS * self._subject.timeout + max(3 * each.seconds for each in counted)
        return counted

    def _require_usable(self, counted: Sequence[Counted]) -> None:
        module = self._subject.target.name
        ran = [each for each in counted if each.outcome != "skipped"]
        for each in ran:
            if each.outcome != "passed":
                raise ModuleFailure(
                    f"{each.test} fails before any call is failed: {each.reason}",
                    hint=f"pytest {shlex.quote(self._test)} --lkm-kernel {self._kernel}",
                )
            if each.problem:
                raise ModuleFailure(
                    f"{module} has a problem in {each.test} before any call is failed: {each.problem}",
                    hint="lkm run --track SOURCE",
                )
        if not ran:
            raise UsageError(f"{counted[0].test} is skipped: {counted[0].reason}")
        if not any(each.loads for each in ran):
            others = ", ".join(sorted({other for each in ran for other in each.others}))
            raise UsageError(
                f"{self._test} does not load {module}: it loads {others or 'no module'}",
                hint="a test loads it by insmod() or vm.insmod()",
            )

    def _each(self, wanted: Sequence[Wanted]) -> list[Fault]:
        done = {} if self._again else self._kept.among(each.n for each in wanted)
        faults = [*done.values(), *self._run([each for each in wanted if each.n not in done])]
        return sorted(faults, key=lambda fault: fault.n)

    def _run(self, wanted: Sequence[Wanted]) -> list[Fault]:
        """The faults, from one pytest a processor."""
        self._progress.step(f"failing calls of {self._subject.target.name}")
        workers = max(1, min(proc.cores(), len(wanted)))
        with tempfile.TemporaryDirectory(prefix="lkm-faults-") as made, working(workers) as pool:
            jobs = [
                self._job(Path(made) / str(at), tuple(wanted[at::workers]))
                for at in range(workers if wanted else 0)
            ]
            running = [
                pool.submit(lambda job=job: self._pytest(job, Path(f"{job.answer}.json")))  # type: ignore[misc]
                for job in jobs
            ]
            try:
                self._watch(jobs, running, len(wanted))
            finally:
                for fault in _faults(jobs):
                    self._kept.keep(fault)
            return self._complete(jobs, wanted, pool.results(running))

    def _watch(
        self, jobs: Sequence[Job], running: Sequence[Future[proc.Finished]], total: int
    ) -> None:
        while wait(running, timeout=_LOOK).not_done:
            self._progress.amount(sum(len(list(job.answers())) for job in jobs), total, "calls")

    def _complete(
        self, jobs: Sequence[Job], wanted: Sequence[Wanted], done: Sequence[proc.Finished]
    ) -> list[Fault]:
        for job in jobs:
            list(_answers(job))
        faults = list(_faults(jobs))
        if len(faults) < len(wanted):
            output = next((each.output for each in done if each.returncode), done[0].output)
            raise HostError(
                f"pytest ended after {len(faults)} of {len(wanted)} runs of {self._test}",
                evidence=output.splitlines()[-8:],
            )
        return faults

    def _job(self, answer: Path, wanted: tuple[Wanted, ...] | None = None) -> Job:
        subject = self._subject
        return Job(
            self._source, subject.target.name, subject.timeout, str(answer),
            limit=self._limit if wanted else 0.0, wanted=wanted,
        )  # fmt: skip

    def _pytest(self, job: Job, path: Path) -> proc.Finished:
        job.write(path)
        words = [
            "-q",
            "-p",
            "no:cacheprovider",
            f"--lkm-faults={path}",
            f"--lkm-kernel={self._kernel}",
        ]
        if importlib.util.find_spec("xdist"):
            words.append("-n0")
        return proc.run(
            [sys.executable, "-m", "pytest", *words, self._test],
            stage=f"the runs of {self._test}",
            timeout=_LIMIT,
            grace=_GRACE,
        )


def _key(subject: Subject, test: str) -> str:
    """A digest of what the results depend on: the subject, the test's file, and the conftest.py above it."""
    file = Path(test.partition("::")[0]).absolute()
    digest = hashlib.sha256(f"{subject.key}\0{test}\0{file}\0".encode())
    directory = file if file.is_dir() else file.parent
    beside = [each / "conftest.py" for each in (directory, *directory.parents)]
    inside = sorted(directory.rglob("*.py")) if file.is_dir() else [file]
    for path in (*inside, *beside):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _numbered(counted: Sequence[Counted]) -> Iterator[tuple[Wanted, int]]:
    """Every call of every test, in the order in which they were made, with the number of its place."""
    n = 0
    for each in counted:
        for load, places in enumerate(each.loads):
            for call, place in enumerate(places, 1):
                n += 1
                yield Wanted(n, each.test, load, call), place


def _answers(job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a pytest has said. Raises the error that it met, where that is of the infrastructure."""
    for kind, facts in job.answers():
        if kind == "broken":
            error: LkmError = pickle.loads(bytes.fromhex(facts["error"]))
            raise error
        yield kind, facts


def _faults(jobs: Sequence[Job]) -> Iterator[Fault]:
    for job in jobs:
        yield from (Fault.from_dict(facts) for kind, facts in job.answers() if kind == "fault")


def _no_test(test: str, done: proc.Finished) -> LkmError:
    """Why pytest ran nothing."""
    if "No module named pytest" in done.output:
        return HostError("pytest is not installed", hint="pip install 'lkm[pytest]'")
    evidence = [line for line in done.output.splitlines() if line.strip()][-8:]
    if done.returncode in (_COLLECTED_NOTHING, _USAGE):
        return UsageError(
            f"pytest finds no test {test}",
            evidence=evidence,
            hint=f"pytest --collect-only -q {test.partition('::')[0]}",
        )
    return UsageError(
        f"pytest ended with {done.returncode} before it ran a test",
        evidence=evidence,
        hint=f"pytest {shlex.quote(test)}",
    )
