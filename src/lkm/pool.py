"""Work in several threads that an interrupt ends: Ctrl-C reaches the main thread only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import TypeVar

from lkm import proc

__all__ = ["Pool", "working"]

_T = TypeVar("_T")

_LOOK = 0.1
"""How often a thread that waits looks whether it is to stop, in seconds."""


class Pool:
    """Threads for the jobs of one block: `working`."""

    def __init__(self, executor: futures.Executor, crew: proc.Crew) -> None:
        self._executor = executor
        self._crew = crew

    def submit(self, job: Callable[[], _T]) -> futures.Future[_T]:
        """Begin a job, or queue it."""

        def work() -> _T:
            with self._crew.member():
                self._crew.check()
                return job()

        return self._executor.submit(work)

    def results(self, jobs: Iterable[futures.Future[_T]]) -> list[_T]:
        """What the jobs gave, in their order, when all have ended. Raises what the first failed one did."""
        waiting = list(jobs)
        while futures.wait(waiting, timeout=_LOOK).not_done:
            proc.Crew.check_mine()
        return [job.result() for job in waiting]


@contextmanager
def working(workers: int) -> Iterator[Pool]:
    """Threads that are gone when the block ends. Left by an exception it ends their processes first."""
    crew = proc.Crew()
    executor = futures.ThreadPoolExecutor(workers)
    try:
        yield Pool(executor, crew)
    except BaseException:
        crew.stop()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
