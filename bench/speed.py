"""What lkm costs, beside the ways it replaces, measured in turn in one go: medians and ratios.

    scripts/bench [--runs N] [--json]

Nothing here is a test: the figures depend on the computer, the ratios less so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import lkm.kbuild as builds
from bench.busybox import boot_and_load
from lkm import source as sources
from lkm.kbuild.make import argv as kbuild_argv
from lkm.kbuild.make import place
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.ko import read_image
from lkm.vm import accel, snapshot
from lkm.vm.machine import Machine

HELLO = Path(__file__).parents[1] / "examples" / "hello"


def timed(job: Callable[[], object]) -> float:
    """Seconds of wall time."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def in_turn(runs: int, *jobs: Callable[[], object]) -> list[float]:
    """The median of each job, after a warm-up, the jobs taking turns so that drift hits all of them."""
    figures: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
    for _ in range(runs):
        for series, job in zip(figures, jobs, strict=True):
            series.append(timed(job))
    return [statistics.median(series) for series in figures]


def command(*words: str) -> Callable[[], object]:
    """A whole `lkm` process."""
    argv = [sys.executable, "-m", "lkm", *words]
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


class Bench:
    """Everything that is measured, on one kernel."""

    def __init__(self, kernel: Kernel, runs: int) -> None:
        self.kernel = kernel
        self.runs = runs
        config = accel.machine_config(kernel)
        self.frozen = snapshot.prepare(kernel, config)
        built = builds.build(sources.find(HELLO), kernel).objects["hello"]
        self.image = read_image(built.stripped)
        self.rows: dict[str, float] = {}

    def cycle(self) -> None:
        """A fresh machine to a verdict's facts."""
        with Machine(snapshot.restore(self.frozen), release=self.kernel.release) as machine:
            load = machine.load(self.image)
            unload = machine.unload("hello")
        assert load.errno == unload.errno == 0
        assert load.records[-1].text == "hello: init"

    def machine(self) -> None:
        """Fresh machine to verdict, whole commands, against a hand-written initrd."""
        with tempfile.TemporaryDirectory() as home:
            by_hand = boot_and_load(self.kernel, self.image, Path(home))
            cycle, run, help_, boot = in_turn(
                self.runs, self.cycle, command("run", str(HELLO)), command("--help"), by_hand
            )
        self.rows |= {
            "fresh machine to verdict, in Python": cycle,
            "lkm run, unchanged source, whole process": run,
            "lkm --help, whole process": help_,
            "hand-written busybox initrd, booted": boot,
            "ratio: booted / lkm run": boot / run,
            "ratio: booted / in Python": boot / cycle,
        }

    def building(self) -> None:
        """A cold build against make alone in the same root, and an unchanged one."""
        with tempfile.TemporaryDirectory() as home:
            directory = Path(home) / "hello"
            shutil.copytree(HELLO, directory, ignore=shutil.ignore_patterns("build"))
            source = sources.find(directory)
            tree = Path(home) / "tree"
            where = place(source, self.kernel, tree)

            def plain() -> None:
                shutil.rmtree(tree, ignore_errors=True)
                shutil.copytree(directory, tree, ignore=shutil.ignore_patterns("build"))
                subprocess.run(kbuild_argv(where, ()), check=True, capture_output=True)

            def ours() -> None:
                builds.clean(source)
                assert not builds.build(source, self.kernel).cached

            make, build = in_turn(max(3, self.runs // 2), plain, ours)
            (unchanged,) = in_turn(self.runs, lambda: builds.build(source, self.kernel))
            builds.clean(source)
        self.rows |= {
            "make alone, same root": make,
            "lkm build": build,
            "ratio: lkm build / make": build / make,
            "lkm build, unchanged": unchanged,
        }

    def throughput(self, count: int = 100) -> None:
        """Fresh machines a second, as many at a time as there are processors."""
        with ProcessPoolExecutor(os.cpu_count(), initializer=_worker, initargs=(self,)) as pool:
            list(pool.map(_one, range(4)))
            seconds = timed(lambda: list(pool.map(_one, range(count))))
        self.rows[f"{count} fresh machines, {os.cpu_count()} at a time, a second"] = count / seconds

    def memory(self, count: int = 4) -> None:
        """What one more restored machine adds, in MiB: QEMU's proportional set size."""
        with _machines(self, count) as running:
            total = sum(_pss(machine.link.pid or 0) for machine in running)
        self.rows["memory a restored machine adds, MiB (PSS)"] = total / count


_bench: Bench | None = None


def _worker(bench: Bench) -> None:
    global _bench  # noqa: PLW0603 - the pool's own way to hand over state
    _bench = bench


def _one(_: int) -> None:
    assert _bench is not None
    _bench.cycle()


@contextmanager
def _machines(bench: Bench, count: int) -> Iterator[list[Machine]]:
    running = [Machine(snapshot.restore(bench.frozen), release="") for _ in range(count)]
    try:
        for machine in running:
            assert machine.load(bench.image).errno == 0
        yield running
    finally:
        for machine in running:
            machine.close()


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--kernel")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bench = Bench(store.get(arguments.kernel), arguments.runs)
    for part in (bench.machine, bench.building, bench.throughput, bench.memory):
        print(f"{part.__name__} ...", file=sys.stderr, flush=True)
        part()
    if arguments.json:
        print(json.dumps({"kernel": bench.kernel.release, "figures": bench.rows}, indent=1))
    else:
        print(f"{bench.kernel.release}, medians of {bench.runs}, seconds unless said")
        for name, figure in bench.rows.items():
            print(f"  {name:<55} {figure:9.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
