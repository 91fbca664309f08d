"""Cells on the workers of a Dask cluster: the only place that knows of Dask."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from importlib import import_module
from typing import Any

from lkm.errors import HostError
from lkm.kbuild.limits import take_jobs
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult
from lkm.matrix.spread import Answer, Job, Spread

__all__ = ["Dask"]

_CONNECT = 10
"""Seconds to wait for the scheduler."""


class Dask:
    """The workers of the scheduler at an address, `tcp://127.0.0.1:8786`.

    The scheduler itself gives the cells of a worker that dies to another one. `troubles` names those that
    could not do their work.
    """

    remote = True

    def __init__(self, address: str) -> None:
        self.address = address
        self.troubles: list[HostError] = []

    @contextlib.contextmanager
    def open(self, cells: int) -> Iterator[Executor]:
        """The cluster as an executor. Leaving it cancels what has not ended there.

        Raises HostError where distributed is not installed or nobody answers at the address.
        """
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise HostError(
                "distributed is not installed", hint="pip install 'lkm[dask]'"
            ) from error
        try:
            client = distributed.Client(self.address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise HostError(
                f"no Dask scheduler at {self.address}: {error}",
                hint="dask scheduler --host 127.0.0.1 --port 8786",
            ) from error
        with _quiet(), client:
            spread = Spread(_Cluster(client), self.troubles.append)
            try:
                yield spread
            finally:
                spread.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own words, stacks and all, on a scheduler that is gone: lkm says it in one line."""
    logger = logging.getLogger("distributed.client")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Cluster:
    """A client of Dask as `Spread` needs it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def workers(self) -> Mapping[str, int]:
        """How many threads each worker has. Raises HostError where the scheduler is gone."""
        if self._client.status != "running":
            raise _gone(self._client)
        try:
            return dict(self._client.nthreads())
        except OSError as error:
            raise _gone(self._client) from error

    def send(
        self, job: Job, cell: Cell, among: frozenset[str] | None, done: Callable[[Answer], None]
    ) -> Callable[[], None]:
        """Submit it; what is returned cancels it."""
        future = self._client.submit(
            _there, job, cell, workers=sorted(among) if among else None, pure=False
        )
        future.add_done_callback(lambda ended: done(_answer(ended)))
        cancel: Callable[[], None] = future.cancel
        return cancel


def _gone(client: Any) -> HostError:
    return HostError(
        f"the Dask scheduler at {client.scheduler.address} is gone",
        hint="start it and its workers again, and the same command goes on",
    )


def _there(job: Job, cell: Cell) -> tuple[str, CellResult]:
    """On a worker: its address, and the result."""
    distributed: Any = import_module("distributed")
    # As many workers as cores may be on its computer.
    take_jobs(1)
    return distributed.get_worker().address, job(cell)


def _answer(future: Any) -> Answer:
    try:
        worker, result = future.result()
    except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
        return Answer(error)
    return Answer(result, worker)
