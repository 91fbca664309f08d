"""Where cells run: processes of this computer, as many as it has cores, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

from lkm import proc
from lkm.errors import HostError
from lkm.kbuild.limits import take_jobs

__all__ = ["Local", "Workers"]

_PR_SET_PDEATHSIG = 1


class Workers(Protocol):
    """Makes executors, one after the other: one whose process died takes no more cells."""

    remote: bool
    """Whether a worker may be on a computer that does not have the source's files."""
    troubles: list[HostError]
    """Workers that could not do their work, and why."""

    def open(self, cells: int) -> AbstractContextManager[Executor]:
        """An executor for so many cells. Leaving it by an error ends what is still running there."""


class Local:
    """Processes of this computer."""

    remote = False

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs or proc.cores()
        self.troubles: list[HostError] = []

    @contextlib.contextmanager
    def open(self, cells: int) -> Iterator[Executor]:
        """A pool of processes that the kernel kills when this one dies, each with its share of the cores."""
        workers = max(1, min(self.jobs, cells))
        share = max(1, proc.cores() // workers)
        # spawn: this process has threads, which a fork would not take along.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(os.getpid(), share)
        )
        before = {child.pid for child in multiprocessing.active_children()}
        try:
            yield pool
            # Idle, they end what they have started, and their parent learns what that cost.
            pool.shutdown(cancel_futures=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child.pid not in before:
                    child.kill()
                    child.join()


def _begin(owner: int, jobs: int) -> None:
    """In a new worker: away from the terminal's Ctrl-C, and dead when its owner is (prctl(2)).

    Two makes with two jobs each on two cores take a quarter longer than with one each.
    """
    take_jobs(jobs)
    os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        os.kill(os.getpid(), signal.SIGKILL)
