"""Workers that cannot do their work get no cells from those that can, and no cell is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tests.unit.matrix_cells import cell, result, source

from lkm.errors import HostError, LkmError
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult, of_error
from lkm.matrix.spread import Answer, Job, Spread

LACKS = HostError(
    "qemu-system-x86_64 is not installed", hint="sudo apt-get install qemu-system-x86"
)
MANY = 40


class Workers:
    """A cluster in this process: each cell goes to who has had fewest; a broken one answers first."""

    def __init__(self, *names: str, broken: tuple[str, ...] = ()) -> None:
        self.names = list(names)
        self.broken = broken
        self.had: dict[str, list[str]] = {name: [] for name in names}
        self.withdrawn = ""
        self.deaf = False
        self.held: list[Callable[[], None]] = []
        self.lock = threading.Lock()

    def workers(self) -> Mapping[str, int]:
        if self.deaf:
            raise HostError("the scheduler is gone")
        return dict.fromkeys(self.names, 1)

    def send(
        self, job: Job, one: Cell, among: frozenset[str] | None, done: Callable[[Answer], None]
    ) -> Callable[[], None]:
        able = [name for name in self.names if among is None or name in among]
        name = min(able, key=lambda each: (each not in self.broken, len(self.had[each])))
        self.had[name].append(one.kernel)
        answer = Answer(self._result(name, one), name)
        if name in self.broken:
            done(answer)
        else:  # takes its time
            threading.Timer(0.005, done, (answer,)).start()
        return lambda: None

    def _result(self, name: str, one: Cell) -> CellResult:
        if name not in self.broken and one.kernel != self.withdrawn:
            return result(one.kernel, worker=name)
        state, told = of_error(LACKS)
        return result(one.kernel, state, told["summary"], error=told, worker=name, hint=LACKS.hint)


@pytest.fixture
def spread() -> Iterator[Callable[..., tuple[Spread, list[HostError]]]]:
    made: list[Spread] = []

    def make(cluster: Any, **more: Any) -> tuple[Spread, list[HostError]]:
        blamed: list[HostError] = []
        made.append(Spread(cluster, blamed.append, **more))
        return made[-1], blamed

    yield make
    for each in made:
        each.shutdown()


def never(_: Cell) -> CellResult:
    raise AssertionError("the cluster runs it")


def submitted(executor: Spread, directory: Path, count: int = MANY) -> list[Future[CellResult]]:
    taken = source(directory)
    return [executor.submit(never, cell(taken, f"6.{number}")) for number in range(count)]


def states(futures: list[Future[CellResult]]) -> set[str]:
    return {future.result(30).state for future in futures}


def test_a_broken_worker_takes_no_cells_from_the_others(spread: Any, tmp_path: Path) -> None:
    cluster = Workers("a", "b", "c", broken=("b",))
    executor, blamed = spread(cluster)
    assert states(submitted(executor, tmp_path)) == {"ok"}
    assert len(cluster.had["b"]) <= 6  # what was with it before it had failed
    (trouble,) = blamed
    assert trouble.summary.startswith("worker b got no more cells")
    assert "qemu-system-x86_64 is not installed" in trouble.summary
    assert trouble.hint == LACKS.hint


def test_a_cell_that_fails_wherever_it_runs_bars_nobody(spread: Any, tmp_path: Path) -> None:
    cluster = Workers("a", "b", "c")
    cluster.withdrawn = "6.0"
    executor, blamed = spread(cluster)
    first, *others = submitted(executor, tmp_path)
    assert states(others) == {"ok"}
    assert first.result(30).state == "error"
    assert blamed == []
    assert min(map(len, cluster.had.values())) > MANY // 6


def test_where_no_worker_can_each_is_named_in_the_cell(spread: Any, tmp_path: Path) -> None:
    executor, blamed = spread(Workers("a", "b", broken=("a", "b")))
    for future in submitted(executor, tmp_path, 5):
        told = future.result(30)
        assert told.reason == "none of 2 workers can run it: qemu-system-x86_64 is not installed"
        assert told.error is not None
        assert sorted(line.partition(":")[0] for line in told.error["evidence"]) == ["a", "b"]
    assert blamed == []


def test_the_only_worker_says_itself_what_it_lacks(spread: Any, tmp_path: Path) -> None:
    executor, _ = spread(Workers("a", broken=("a",)))
    reasons = {future.result(30).reason for future in submitted(executor, tmp_path, 5)}
    assert reasons == {LACKS.summary}


def test_a_cluster_without_workers_is_an_error_after_a_while(spread: Any, tmp_path: Path) -> None:
    executor, _ = spread(Workers(), nobody=0.01)
    (future,) = submitted(executor, tmp_path, 1)
    with pytest.raises(HostError, match="no worker for"):
        future.result(30)


def test_workers_that_come_later_are_used(spread: Any, tmp_path: Path) -> None:
    cluster = Workers()
    executor, _ = spread(cluster)
    futures = submitted(executor, tmp_path, 2)
    time.sleep(0.01)
    cluster.had["late"] = []
    cluster.names.append("late")
    assert states(futures) == {"ok"}


def test_a_scheduler_that_is_gone_ends_every_cell(spread: Any, tmp_path: Path) -> None:
    cluster = Workers("a")
    cluster.deaf = True
    executor, _ = spread(cluster)
    for future in submitted(executor, tmp_path, 3):
        with pytest.raises(LkmError, match="the scheduler is gone"):
            future.result(30)


def test_cells_for_workers_who_are_gone_go_to_others(spread: Any, tmp_path: Path) -> None:
    class Silent(Workers):
        def send(self, job: Job, one: Cell, among: Any, done: Any) -> Callable[[], None]:
            if among == frozenset("b"):  # which dies with the cell
                self.names = ["c"]
                self.had["c"] = []
                return lambda: None
            return super().send(job, one, among, done)

    cluster = Silent("a", "b", broken=("a",))
    executor, _ = spread(cluster)
    assert states(submitted(executor, tmp_path, 1)) == {"ok"}
    assert cluster.had == {"a": ["6.0"], "b": [], "c": ["6.0"]}
