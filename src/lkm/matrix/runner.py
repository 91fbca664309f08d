"""Cells through an executor: kept results first, then each as it ends, and none lost when a worker dies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor as Broken
from concurrent.futures import CancelledError, Executor, Future, as_completed
from dataclasses import replace

from lkm.errors import HostError, LkmError, MachineError
from lkm.matrix import results, sources
from lkm.matrix.cell import Cell, run_cell
from lkm.matrix.executor import Workers
from lkm.matrix.outcome import CellResult, State, of_error
from lkm.matrix.results import Kept
from lkm.matrix.sources import Source

__all__ = ["Runner"]

TRIES = 3
"""How often a cell is begun: one at whose side a worker dies each time is given up."""


class Runner:
    """Runs cells and keeps their results."""

    def __init__(self, workers: Workers, kept: Kept | None = None, *, again: bool = False) -> None:
        self._workers = workers
        self._kept = kept or Kept()
        self._again = again
        self._found: list[tuple[Cell, CellResult]] = []
        self._waiting: list[Cell] = []
        self._packed: dict[Source, Source] = {}
        self._unkept: list[HostError] = []

    @property
    def troubles(self) -> list[HostError]:
        """The first result that could not be kept, and the workers that could not do their work."""
        return [*self._unkept[:1], *self._workers.troubles]

    @property
    def remote(self) -> bool:
        """Whether cells may run on other computers."""
        return self._workers.remote

    def begin(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        """Take these cells up, and return those that have to run: what is kept and unchanged does not.

        With `again` all of them run. Large sources come first: they take longest, and the last cells to end
        should be short ones.
        """
        self._waiting, self._found = [], []
        if not self._again:
            results.sweep()
        for cell in cells:
            found = None if self._again else self._kept.find(cell)
            if found:
                self._found.append((cell, found))
            else:
                self._waiting.append(cell)
        self._waiting.sort(key=lambda cell: -cell.source.size)
        return tuple(self._waiting)

    def ended(self) -> Iterator[tuple[Cell, CellResult]]:
        """Each cell with its result as soon as that is there; those that need not run come first.

        What ends the iteration, Ctrl-C too, ends what is running.
        """
        yield from self._found
        if self._waiting:
            yield from self._run(self._waiting)

    def _run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, CellResult]]:
        waiting = dict.fromkeys(cells, 0)
        while waiting:
            with self._workers.open(len(waiting)) as executor:
                yield from self._through(executor, waiting)
            # What is left was begun, or might have been, when a worker died.
            for cell in list(waiting):
                waiting[cell] += 1
                if waiting[cell] >= TRIES:
                    del waiting[cell]
                    yield cell, _lost(cell)

    def _through(
        self, executor: Executor, waiting: dict[Cell, int]
    ) -> Iterator[tuple[Cell, CellResult]]:
        """What ends in this executor; taken out of `waiting`, so that what is left has to run again."""
        futures = {executor.submit(run_cell, self._ready(cell)): cell for cell in waiting}
        try:
            for future in as_completed(futures):
                cell = futures[future]
                if result := self._of(future, cell):
                    del waiting[cell]
                    self._keep(cell, result)
                    yield cell, result
        finally:
            # Where somebody stopped asking, more may have ended meanwhile.
            for future, cell in futures.items():
                if cell in waiting and future.done() and (result := self._of(future, cell)):
                    self._keep(cell, result)

    def _of(self, future: Future[CellResult], cell: Cell) -> CellResult | None:
        """What became of a cell; None where its executor died or gave it up, so that it has to run again."""
        try:
            return self._named(future.result())
        except (CancelledError, Broken):
            return None
        except LkmError as error:
            return _failed(cell, error)
        except Exception as error:  # noqa: BLE001 - the cluster's own words about this one cell
            return _failed(cell, MachineError(f"the cluster gave it up: {error}", stage="matrix"))

    def _ready(self, cell: Cell) -> Cell:
        """The cell as its worker needs it: with its files, where that has not the same disk."""
        if not self.remote:
            return cell
        if cell.source not in self._packed:
            self._packed[cell.source] = sources.packed(cell.source, tests=cell.tests)
        return replace(cell, source=self._packed[cell.source])

    def _named(self, result: CellResult) -> CellResult:
        """Of a worker elsewhere that could not do it, which one it was."""
        if not self.remote or result.state != State.ERROR:
            return result
        return replace(result, reason=f"{result.worker}: {result.reason}")

    def _keep(self, cell: Cell, result: CellResult) -> None:
        try:
            self._kept.keep(cell, result)
        except HostError as error:
            self._unkept.append(error)


def _lost(cell: Cell) -> CellResult:
    return _failed(
        cell,
        MachineError(
            f"the worker died {TRIES} times while {cell.row} ran on {cell.kernel}",
            stage="matrix",
            hint="look for the kernel's out-of-memory killer: dmesg",
        ),
    )


def _failed(cell: Cell, error: LkmError) -> CellResult:
    state, told = of_error(error)
    blank = CellResult(cell.source.name, cell.kernel, " ".join(cell.params), state)
    return replace(blank, reason=told["summary"], hint=told["hint"], error=told)
