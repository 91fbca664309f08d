"""Cells go through any executor, and none is lost; what a cell cannot do is in its result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from tests.unit.matrix_cells import KERNELS, cell, reported, result, source

from lkm import cli, proc
from lkm.errors import HostError, MachineError, UsageError
from lkm.kbuild import limits
from lkm.kernels import store
from lkm.matrix import cell as cells
from lkm.matrix import dask, executor, suite
from lkm.matrix import plan as plans
from lkm.matrix import runner as runners
from lkm.matrix.cell import Cell, run_cell
from lkm.matrix.outcome import CellResult, exit_code, gravest
from lkm.matrix.results import Kept
from lkm.matrix.runner import TRIES, Runner


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))


class Threads:
    """Workers in this process; the first `dying` cells that begin take their executor with them."""

    remote = False

    def __init__(self, dying: int = 0) -> None:
        self.troubles: list[HostError] = []
        self.dying = dying
        self.opened = 0

    @contextlib.contextmanager
    def open(self, cells: int) -> Iterator[Executor]:
        self.opened += 1
        with ThreadPoolExecutor(1) as pool:
            yield _Mortal(self, pool)


class _Mortal(Executor):
    def __init__(self, workers: Threads, pool: ThreadPoolExecutor) -> None:
        self._workers = workers
        self._pool = pool
        self._dead = False

    def submit(self, job: Any, /, *words: Any, **more: Any) -> Future[Any]:
        def work() -> Any:
            if self._dead or self._workers.dying:
                self._workers.dying -= not self._dead
                self._dead = True
                raise BrokenProcessPool
            return job(*words)

        return self._pool.submit(work)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels for which a cell ran, which all end `ok`."""
    seen: list[str] = []

    def fake(one: Cell) -> CellResult:
        seen.append(one.kernel)
        return result(one.kernel)

    monkeypatch.setattr(runners, "run_cell", fake)
    return seen


def run(workers: Threads, wanted: list[Cell], **more: Any) -> list[CellResult]:
    runner = Runner(workers, **more)
    runner.begin(wanted)
    return [found for _, found in runner.ended()]


def test_an_interrupted_matrix_goes_on_where_it_was(tmp_path: Path, ran: list[str]) -> None:
    wanted = [cell(source(tmp_path), kernel) for kernel in KERNELS]
    runner = Runner(Threads())
    runner.begin(wanted)
    for _, found in runner.ended():
        if found.kernel == KERNELS[1]:
            break
    ended = len(ran)
    again = run(Threads(), wanted)
    kept = {found.kernel for found in again if found.kept}
    assert kept >= set(KERNELS[:2])
    assert ran[ended:] == [kernel for kernel in KERNELS if kernel not in kept]


def test_what_has_ended_is_kept_also_when_nobody_asked_for_it_any_more(
    tmp_path: Path, ran: list[str]
) -> None:
    wanted = [cell(source(tmp_path), kernel) for kernel in KERNELS]
    runner = Runner(Threads())
    runner.begin(wanted)
    for _ in runner.ended():
        while len(ran) < len(wanted):  # the last one has begun, so those before it have ended
            time.sleep(0.001)
        break
    again = run(Threads(), wanted)
    assert {found.kernel for found in again if found.kept} >= set(KERNELS[:3])


def test_large_sources_run_first(tmp_path: Path, ran: list[str]) -> None:
    small, large = (source(tmp_path / name, "/**/" * size) for name, size in (("s", 1), ("l", 99)))
    wanted = [cell(small, KERNELS[0]), cell(large, KERNELS[1]), cell(large, KERNELS[2])]
    assert [each.kernel for each in Runner(Threads()).begin(wanted)] == [*KERNELS[1:3], KERNELS[0]]


def test_an_unchanged_matrix_starts_no_worker(tmp_path: Path, ran: list[str]) -> None:
    wanted = [cell(source(tmp_path), kernel) for kernel in KERNELS]
    run(Threads(), wanted)
    workers = Threads()
    assert all(found.kept for found in run(workers, wanted))
    assert workers.opened == 0
    assert not any(found.kept for found in run(Threads(), wanted, again=True))


def test_a_worker_that_dies_loses_no_cell(tmp_path: Path, ran: list[str]) -> None:
    wanted = [cell(source(tmp_path), kernel) for kernel in KERNELS]
    found = run(Threads(dying=TRIES - 1), wanted)
    assert sorted(each.kernel for each in found) == sorted(KERNELS)
    assert {each.state for each in found} == {"ok"}


def test_a_cell_at_whose_side_each_worker_dies_is_given_up(tmp_path: Path, ran: list[str]) -> None:
    (found,) = run(Threads(dying=99), [cell(source(tmp_path))])
    assert (found.state, exit_code([found])) == ("error", 5)
    assert f"died {TRIES} times while demo ran on {KERNELS[0]}" in (found.reason or "")


def test_a_result_that_the_disk_does_not_take_is_shown_all_the_same(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise HostError("no space left")

    runner = Runner(Threads())
    monkeypatch.setattr(Kept, "keep", full)
    runner.begin([cell(source(tmp_path))])
    assert [found.state for _, found in runner.ended()] == ["ok"]
    assert [trouble.summary for trouble in runner.troubles] == ["no space left"]


# What stops a cell


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (HostError("qemu-system-x86_64 is not installed", hint="apt"), "error", 3),
        (MachineError("it stopped", stage="boot"), "error", 5),
        (UsageError("no module here"), "bad-input", 2),
        (OSError(28, "No space left on device", "/x"), "error", 3),
        (RuntimeError("a bug"), "error", 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_cell_is_in_its_result_and_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, code: int
) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(store, "get", fail)
    found = run_cell(cell(source(tmp_path)))
    assert (found.state, exit_code([found]), found.is_verdict) == (state, code, False)
    assert found.error is not None
    assert found.error["summary"] == found.reason
    assert found.worker


def test_another_lkm_refuses_the_cell(tmp_path: Path) -> None:
    found = run_cell(cell(source(tmp_path), code="another"))
    assert found.state == "error"
    assert "is not the one that asks (another)" in (found.reason or "")


def test_a_source_that_changes_meanwhile_has_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cell(source(tmp_path))

    def meanwhile(*_: object) -> Any:
        (one.source.path / "demo.c").write_text("/* later */\n")

    monkeypatch.setattr(store, "get", lambda name: None)
    monkeypatch.setattr(cells, "_loaded", meanwhile)
    monkeypatch.setattr(cells, "_told", lambda blank, *_: blank)
    found = run_cell(one)
    assert (found.state, found.is_verdict) == ("bad-input", False)
    assert "changed while the matrix ran" in (found.reason or "")


# States and exit codes


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ((), "ok"),
        (("ok", "problem"), "problem"),
        (("load-failed", "panic", "problem"), "panic"),
        (("unload-failed", "build-failed"), "unload-failed"),
        (("ok", "excluded"), "ok"),
        (("excluded",), "excluded"),
        (("ok", "a-verdict-of-tomorrow"), "a-verdict-of-tomorrow"),
    ],
)
def test_a_cell_is_as_its_gravest_module(states: tuple[str, ...], worst: str) -> None:
    assert gravest(states) == worst


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("ok", "excluded"), 0),
        (("ok", "problem"), 1),
        (("tests-failed",), 1),
        (("problem", "build-failed"), 4),
        (("error", "load-failed"), 1),
        (("error", "ok"), 5),
    ],
)
def test_the_exit_code_tells_a_red_cell_before_broken_infrastructure(
    states: tuple[str, ...], code: int
) -> None:
    told = {"exit_code": 5}
    assert (
        exit_code([result(KERNELS[0], s, error=told if s == "error" else None) for s in states])
        == code
    )


# Plans


def test_two_sources_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = source(tmp_path / "a").path, source(tmp_path / "b").path
    assert [s.name for s in plans.sources_of([str(first), str(second)])] == [
        str(first),
        str(second),
    ]
    assert [s.name for s in plans.sources_of([str(first), str(first)])] == ["demo"]


def test_each_set_of_parameters_is_a_row(tmp_path: Path) -> None:
    path = str(source(tmp_path).path)
    planned = plans.plan([path], KERNELS[:2], params=["a=1 b=2", "", "a=1 b=2"])
    assert [one.row for one in planned.cells()] == ["demo a=1 b=2"] * 2 + ["demo"] * 2
    with pytest.raises(UsageError):
        plans.plan([path], KERNELS, params=["=1"])


@pytest.mark.parametrize(
    "words", [["-j", "0"], ["--timeout", "0"], ["--html", "nowhere/x.html"], ["--params", "=1"]]
)
def test_a_wrong_option_is_refused_before_a_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(plans, "kernels_of", lambda *_, **__: KERNELS)
    monkeypatch.setattr(Runner, "begin", None)
    assert cli.main(["matrix", str(source(tmp_path).path), *words]) == 2


def test_results_are_in_the_plans_order_however_they_came() -> None:
    done = reported(result(KERNELS[2], "panic", "x"), result(KERNELS[0]))
    assert [each.kernel for each in done.results] == [KERNELS[0], KERNELS[2]]
    assert done.counts == {"ok": 1, "panic": 1}


# A source's own tests

JUNIT = (
    '<testsuites><testsuite name="pytest" tests="3" failures="1" errors="{errors}" skipped="1" time="1.5">'
    '<testcase name="test_a"/><testcase name="test_b"><failure message="assert 1 == 2">why</failure>'
    '</testcase><testcase name="test_c">{more}</testcase></testsuite></testsuites>'
)


def test_the_counts_of_a_suite_are_those_of_its_junit_file() -> None:
    counts = suite.counted(JUNIT.format(errors=0, more="<skipped/>").encode())
    assert (counts["tests"], counts["failed"], counts["skipped"]) == (3, 1, 1)
    assert counts["failures"] == [{"test": "test_b", "message": "assert 1 == 2", "text": "why"}]


def test_a_test_that_met_broken_infrastructure_is_no_verdict() -> None:
    more = '<error message="failed on setup with &quot;lkm.errors.MachineError: boot: no&quot;">x</error>'
    with pytest.raises(MachineError, match="test_c"):
        suite.counted(JUNIT.format(errors=1, more=more).encode())


def test_a_source_without_tests_has_none(tmp_path: Path) -> None:
    assert suite.run(source(tmp_path).path, KERNELS[0])["tests"] == 0


def test_no_scheduler_is_trouble_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECT", 0.2)
    with (
        pytest.raises(HostError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1"),
        dask.Dask("tcp://127.0.0.1:1").open(1),
    ):
        pass


@pytest.mark.parametrize(
    ("workers", "cells", "share"), [(1, 9, 4), (2, 9, 2), (3, 9, 1), (8, 9, 1), (8, 1, 4)]
)
def test_a_worker_has_its_share_of_the_cores_for_make(
    workers: int, cells: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "cores", lambda: 4)
    with executor.Local(workers).open(cells) as pool:
        assert pool.submit(limits.jobs).result() == share
    assert limits.jobs() == proc.cores()
