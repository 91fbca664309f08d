"""Cells over the workers of a cluster, some of which may not be able to do their work.

A worker whose computer lacks something (no QEMU, no network, a full disk) fails at once and would take one cell
after the other from those that work. Here it gets no more cells while the one that it failed runs elsewhere. If
that comes to an end there, the worker is to blame, is named, and gets none; if it fails on a worker that has
proved itself, or on all that there are, the cell is to blame.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lkm.errors import HostError, LkmError
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult

__all__ = ["Answer", "Cluster", "Job", "Spread"]

Job = Callable[[Cell], CellResult]
_TICK = 1.0
_NOBODY = 60.0
"""Seconds that a cluster may be without a worker."""
_AHEAD = 2
"""Cells that are with the cluster for each thread it has: none waits for this side, few have to come back."""


@dataclass(frozen=True)
class Answer:
    """What came of a cell: where it ran, if that is known, and its result or what the cluster said instead."""

    result: CellResult | BaseException
    worker: str | None = None


class Cluster(Protocol):
    """Workers at addresses, that come and go."""

    def workers(self) -> Mapping[str, int]:
        """How many threads each worker has that is there now. Raises HostError where nobody answers."""

    def send(
        self, job: Job, cell: Cell, among: frozenset[str] | None, done: Callable[[Answer], None]
    ) -> Callable[[], None]:
        """Have a cell run on one of these workers, or on any; `done` is called from any thread.

        Calling what is returned gives the cell up.
        """


@dataclass(eq=False)
class _Task:
    job: Job
    cell: Cell
    future: Future[CellResult]
    failed: dict[str, CellResult] = field(default_factory=dict)
    among: frozenset[str] | None = None
    give_up: Callable[[], None] | None = None
    sent: int = 0


class Spread(Executor):
    """A cluster as an executor for `run_cell`. `blamed` is called once for each worker that is no use."""

    def __init__(
        self, cluster: Cluster, blamed: Callable[[HostError], None], *, nobody: float = _NOBODY
    ) -> None:
        self._cluster = cluster
        self._blamed = blamed
        self._nobody = nobody
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._with_cluster: set[_Task] = set()
        self._barred: dict[str, _Task | None] = {}
        self._proved: set[str] = set()
        self._alive: Mapping[str, int] = {}
        self._looked = float("-inf")
        self._seen_alive = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="lkm-spread", daemon=True)
        self._thread.start()

    def submit(self, fn: Job, /, *args: Any, **_: Any) -> Future[CellResult]:  # type: ignore[override]
        """The result of `fn(cell)`, which a worker that can gives, or an LkmError."""
        future: Future[CellResult] = Future()
        task = _Task(fn, args[0], future)
        self._events.put(lambda: self._waiting.append(task))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Give up what has not ended."""
        self._events.put(None)
        if wait:
            self._thread.join()

    def _serve(self) -> None:
        while (events := self._next()) is not None:
            for event in events:
                event()
            try:
                self._look()
                self._send_out()
            except HostError as error:
                self._fail_all(error)
        for task in self._with_cluster:
            if task.give_up:
                task.give_up()

    def _next(self) -> list[Callable[[], None]] | None:
        """What has happened; after a while nothing, for workers come and go. None is the end."""
        found = []
        try:
            event = self._events.get(timeout=_TICK)
            while event is not None:
                found.append(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return found
        return None

    def _look(self) -> None:
        """See who is there; cells that only workers who are gone could run go to others."""
        now = time.monotonic()
        if now - self._looked < _TICK or not (self._waiting or self._with_cluster):
            return
        self._alive, self._looked = self._cluster.workers(), now
        if self._alive:
            self._seen_alive = now
        elif now - self._seen_alive > self._nobody:
            self._fail_all(_nobody(self._nobody))
        for task in list(self._with_cluster):
            if task.among is not None and not task.among & self._alive.keys():
                self._take_back(task)
                self._waiting.appendleft(task)

    def _send_out(self) -> None:
        good = [address for address in self._alive if address not in self._barred]
        room = _AHEAD * sum(self._alive[address] for address in good or self._alive)
        while self._waiting and len(self._with_cluster) < room:
            self._send(self._waiting.popleft())

    def _send(self, task: _Task) -> None:
        task.among = self._among(task)
        task.sent += 1
        number = task.sent
        self._with_cluster.add(task)

        def done(answer: Answer) -> None:
            self._events.put(lambda: self._ended(task, number, answer))

        task.give_up = self._cluster.send(task.job, task.cell, task.among, done)

    def _among(self, task: _Task) -> frozenset[str] | None:
        """Who may run it: of those that it has not failed on, the best that there are; None for any."""
        if not self._barred and not task.failed:
            return None
        left = self._alive.keys() - task.failed.keys()
        good = left - self._barred.keys()
        return frozenset((task.failed and good & self._proved) or good or left)

    def _take_back(self, task: _Task) -> None:
        self._with_cluster.discard(task)
        task.sent += 1  # what it still says is an answer to nothing
        if task.give_up:
            task.give_up()

    def _ended(self, task: _Task, number: int, answer: Answer) -> None:
        if number != task.sent or task not in self._with_cluster:
            return
        self._with_cluster.discard(task)
        result = answer.result
        if isinstance(result, BaseException):
            self._finish(task, result)
        elif answer.worker and _lacks_something(result):
            self._failed(task, answer.worker, result)
        else:
            self._proved |= {answer.worker} if answer.worker else set()
            self._blame(task)
            self._finish(task, result)

    def _failed(self, task: _Task, worker: str, result: CellResult) -> None:
        task.failed[worker] = result
        if worker in self._proved or not self._alive.keys() - task.failed.keys():
            self._barred = {w: why for w, why in self._barred.items() if why is not task}
            self._finish(task, _said_by_all(task))
        else:
            self._barred.setdefault(worker, task)
            self._waiting.appendleft(task)

    def _blame(self, task: _Task) -> None:
        """The workers on which this cell failed, now that it has ended elsewhere."""
        for worker, result in task.failed.items():
            if self._barred.get(worker) is task:
                self._barred[worker] = None
                self._blamed(_useless(result))

    def _finish(self, task: _Task, result: CellResult | BaseException) -> None:
        if isinstance(result, BaseException):
            task.future.set_exception(result)
        else:
            task.future.set_result(result)

    def _fail_all(self, error: LkmError) -> None:
        for task in list(self._with_cluster):
            self._take_back(task)
            self._finish(task, error)
        while self._waiting:
            self._finish(self._waiting.popleft(), error)


def _lacks_something(result: CellResult) -> bool:
    """Whether it was the worker's computer that could not do it, or may have been."""
    return result.error is not None and result.error["exit_code"] == HostError.exit_code


def _said_by_all(task: _Task) -> CellResult:
    """The last result, with what each worker said where there were several."""
    *_, last = task.failed.values()
    if len(task.failed) == 1 or last.error is None:
        return last
    told = [f"{result.worker}: {result.reason}" for result in task.failed.values()]
    summary = f"none of {len(told)} workers can run it: {last.reason}"
    return replace(last, reason=summary, error={**last.error, "summary": summary, "evidence": told})


def _useless(result: CellResult) -> HostError:
    return HostError(
        f"worker {result.worker} got no more cells, others ran what it could not: {result.reason}",
        hint=result.hint,
    )


def _nobody(seconds: float) -> HostError:
    return HostError(
        f"the cluster has had no worker for {seconds:g} s", hint="dask worker ADDRESS --nthreads 1"
    )
