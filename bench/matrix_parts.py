"""The parts of `bench.matrix`, each a process of its own: `PART KERNELS WORDS...`; the last line is JSON."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import cpu, stores
from lkm import atomic
from lkm.arch import X86_64
from lkm.kernels import apt, dkms, packaging, store
from lkm.matrix.cell import Cell
from lkm.matrix.executor import Local, Workers
from lkm.matrix.outcome import CellResult
from lkm.matrix.plan import Plan, sources_of
from lkm.matrix.runner import Runner
from lkm.paths import cache_dir

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLES = ("hello", "mulfile", "getargs", "params")
_EMPTY = 300
_LOOP = 2.0


def fresh(directory: Path) -> list[str]:
    """Copies of the samples whose content nobody has built."""
    made = directory / uuid.uuid4().hex
    for name in SAMPLES:
        shutil.copytree(
            EXAMPLES / name, made / name, ignore=shutil.ignore_patterns("build", "test_*")
        )
        (made / name / "Makefile").open("a").write(f"# {made.name}\n")
    return [str(made / name) for name in SAMPLES]


def processor() -> str:
    """What the processor calls itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def limit() -> float:
    """What two processes that only compute do together, over twice what one does."""

    def turns(processes: int) -> int:
        code = f"import time\nend=time.time()+{_LOOP}\nn=0\nwhile time.time()<end: n+=1\nprint(n)"
        argv = [sys.executable, "-S", "-c", code]
        running = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(processes)]
        return sum(int(each.communicate()[0]) for each in running)

    return turns(2) / turns(1) / 2


def ran(
    paths: Sequence[str], kernels: Sequence[str], workers: Workers, *, again: bool = False
) -> dict[str, Any]:
    """Seconds of wall time of a matrix and the number of its cells; every one has to be ok."""
    started = time.perf_counter()
    runner = Runner(workers, again=again)
    runner.begin(Plan(sources_of(paths), tuple(kernels)).cells())
    results = [result for _, result in runner.ended()]
    assert all(result.state == "ok" for result in results), [r.reason for r in results if r.reason]
    return {"wall": time.perf_counter() - started, "cells": len(results)}


def boot(path: str, kernel: str) -> dict[str, Any]:
    """A first cell and a second one in a store that has the kernel, but no frozen machine of it."""
    shared, download = cache_dir(), _download(kernel)
    with stores.own("kernels", "roots", "agents", "accel.json") as made:
        words = ("cells", kernel, "1", "0,1", "again", path)
        argv = [sys.executable, "-m", "bench.matrix_parts", *words]
        cpu.spent(argv)
        built = cpu.spent(argv)
        shutil.rmtree(made / "snapshots")
        first = cpu.spent(argv)
        return {
            "cpu": first.cpu - built.cpu,
            "wall": first.wall - built.wall,
            "frozen_bytes": atomic.disk_bytes(made / "snapshots"),
            "download_bytes": download,
            "kernel_bytes": atomic.disk_bytes((shared / "kernels" / kernel).resolve()),
        }


def packages(names: Sequence[str], kernel: str) -> dict[str, Any]:
    """One worker's time for the sources of packages, whose content nobody has built."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as made:
        paths = []
        for name in names:
            path = Path(made) / name
            shutil.copytree(dkms.package(name), path)
            (path / "dkms.conf").open("a").write(f"\n# {made}\n")
            paths.append(str(path))
        return ran(paths, [kernel], Local(1))


def _download(release: str) -> int:
    """The size of a kernel's packages, in bytes."""
    kernel = store.get(release, fetch=False)
    names = [f"linux-image-{release}", f"linux-headers-{release}"]
    found = apt.closure(apt.world(str(kernel.suite), X86_64), names)
    return sum(package.size for package in found if packaging.is_own(package.name))


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[tuple[str, int]]:
    """A scheduler and workers of this computer, each of a core: its address, and its process id."""
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "scheduler.json"
        where = ("--scheduler-file", str(file))
        quiet = ("--no-dashboard",)
        running = [_part("scheduler", "--host", "127.0.0.1", "--port", "0", *quiet, *where)]
        try:
            while not file.exists() or not file.read_text().endswith("}"):
                time.sleep(0.1)
            for core in sorted(os.sched_getaffinity(0))[:workers]:
                running.append(_part("worker", *where, "--no-nanny", "--nthreads", "1", *quiet))
                os.sched_setaffinity(running[-1].pid, {core})
            yield str(json.loads(file.read_text())["address"]), running[0].pid
        finally:
            for each in running:
                each.kill()
                each.wait()


def _part(*words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def through_dask(workers: int, paths: Sequence[str], kernels: Sequence[str]) -> dict[str, Any]:
    """What `ran` says, and what the scheduler had to do for each cell."""
    from lkm.matrix.dask import Dask

    with cluster(workers) as (address, pid):
        _wait_for(address, workers)
        told = ran(paths, kernels, Dask(address))
        return {**told, **_empty(Dask(address), paths, kernels, pid)}


def _wait_for(address: str, workers: int) -> None:
    distributed: Any = import_module("distributed")
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(workers)


def nothing(cell: Cell) -> CellResult:
    """A cell that costs its way there and back."""
    return CellResult(cell.source.name, cell.kernel, "", "ok", worker=str(os.getpid()))


def _empty(
    workers: Workers, paths: Sequence[str], kernels: Sequence[str], scheduler: int
) -> dict[str, float]:
    """Seconds, and the scheduler's CPU, for a cell that does nothing."""
    (cell,) = Plan(sources_of(paths[:1]), tuple(kernels[:1])).cells()
    with workers.open(_EMPTY) as executor:
        executor.submit(nothing, cell).result()
        started, before = time.perf_counter(), cpu.clock(scheduler)
        wait([executor.submit(nothing, cell) for _ in range(_EMPTY)])
        used = time.perf_counter() - started, cpu.clock(scheduler) - before
        return {"empty": used[0] / _EMPTY, "scheduler": used[1] / _EMPTY}


def _stay_on(cores: Iterable[int]) -> None:
    """Use these of the cores that there are, counted from 0, for all that this process starts, too."""
    known = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {known[at] for at in cores})


def main() -> None:
    """Do a part."""
    part, listed, *words = sys.argv[1:]
    kernels = listed.split(",")
    if part == "cells":
        jobs, cores, again, *paths = words
        _stay_on(map(int, cores.split(",")))
        told = ran(paths, kernels, Local(int(jobs)), again=again == "again")
    elif part == "boot":
        told = boot(words[0], kernels[-1])
    elif part == "packages":
        told = packages(words, kernels[len(kernels) // 2])
    else:
        workers, *paths = words
        told = through_dask(int(workers), paths, kernels)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
