from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lkm import pool, proc
from lkm.cli.board import Rate


def test_jobs_give_their_results_in_their_order() -> None:
    with pool.working(2) as threads:
        jobs = [threads.submit(lambda number=number: number * 2) for number in range(5)]  # type: ignore[misc]
        assert threads.results(jobs) == [0, 2, 4, 6, 8]


def test_an_interrupt_ends_what_the_threads_run() -> None:
    ended: list[BaseException] = []
    started = threading.Barrier(3)

    def sleep() -> None:
        try:
            started.wait()
            proc.run(["sleep", "600"], stage="test", timeout=700)
        except BaseException as error:
            ended.append(error)
            raise

    def interrupted() -> None:
        with pool.working(2) as threads:
            for _ in range(2):
                threads.submit(sleep)
            started.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [type(error) for error in ended] == [KeyboardInterrupt, KeyboardInterrupt]


def test_threads_within_threads_are_interrupted_too() -> None:
    inside = threading.Event()

    def outer() -> None:
        def inner() -> None:
            inside.set()
            proc.run(["sleep", "600"], stage="test", timeout=700)

        with pool.working(1) as threads:
            threads.results([threads.submit(inner)])

    def interrupted() -> None:
        with pool.working(1) as threads:
            threads.submit(outer)
            inside.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_one_error_is_raised_when_all_have_ended() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("one")

    with pytest.raises(ValueError, match="one"), pool.working(2) as threads:
        threads.results([threads.submit(fail), threads.submit(lambda: done.append(1))])
    assert done == [1]


def test_a_rate_is_of_what_came_since_the_start() -> None:
    times: Iterator[float] = iter([0.0, 0.1, 2.0, 4.0])
    rate = Rate(lambda: next(times))
    assert rate.text(30e6, 50e6) == "30.0 MB of 50.0 MB"
    assert rate.text(30.5e6, 50e6) == "30.5 MB of 50.0 MB"
    assert rate.text(40e6, 50e6) == "40.0 MB of 50.0 MB, 5.0 MB/s, 2 s left"
    assert rate.text(50e6, 50e6) == "50.0 MB of 50.0 MB, 5.0 MB/s"
