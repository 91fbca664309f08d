"""What a matrix costs: CPU a cell, an unchanged one, and what a second worker brings, local and through Dask.

    python -m bench.matrix [--kernels LIST] [--dask]

CPU is the whole computer's, from /proc/stat, so nothing else may run. Kernels have to be on this disk. Each
part changes the sources' content, so that make runs; frozen machines are made before anything is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from lkm.matrix.executor import Local, Workers
from lkm.matrix.plan import Plan, kernels_of, sources_of
from lkm.matrix.runner import Runner

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLES = ("hello", "mulfile", "getargs", "params")
TICKS = os.sysconf("SC_CLK_TCK")


def busy() -> float:
    """Seconds of CPU that this computer has spent since it booted (proc_stat(5): user, nice, system)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, fields[:3])) / TICKS


def fresh(directory: Path) -> list[str]:
    """Copies of the samples whose content nobody has built."""
    made = directory / uuid.uuid4().hex
    for name in SAMPLES:
        shutil.copytree(
            EXAMPLES / name, made / name, ignore=shutil.ignore_patterns("build", "test_*")
        )
        (made / name / "Makefile").open("a").write(f"# {made.name}\n")
    return [str(made / name) for name in SAMPLES]


def ran(
    paths: list[str], kernels: tuple[str, ...], workers: Workers, *, again: bool = False
) -> tuple[float, float]:
    """Seconds of wall time and of CPU for a matrix; every cell has to be ok."""
    started, cpu = time.perf_counter(), busy()
    runner = Runner(workers, again=again)
    runner.begin(Plan(sources_of(paths), kernels).cells())
    results = [result for _, result in runner.ended()]
    assert all(result.state == "ok" for result in results), [r.reason for r in results if r.reason]
    return time.perf_counter() - started, busy() - cpu


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """A scheduler and workers of this computer; the scheduler's address."""
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "scheduler.json"
        words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        parts = [_part(*words, "--scheduler-file", str(file))]
        while not file.exists() or not file.stat().st_size:
            time.sleep(0.1)
        words = [
            "worker",
            "--scheduler-file",
            str(file),
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            "1",
        ]
        parts += [_part(*words) for _ in range(workers)]
        time.sleep(5)
        try:
            import json

            yield str(json.loads(file.read_text())["address"])
        finally:
            for part in parts:
                part.kill()
                part.wait()


def _part(*words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", default="6.1,6.12", help="LIST, as for lkm matrix")
    parser.add_argument("--dask", action="store_true", help="the workers of a Dask cluster, too")
    arguments = parser.parse_args()
    kernels = kernels_of(arguments.kernels)
    cells = len(SAMPLES) * len(kernels)
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as made:
        directory = Path(made)
        ran(fresh(directory)[:1], kernels, Local())

        def figures(what: str, one: Callable[[int], tuple[float, float]]) -> None:
            (alone, _), (both, cpu) = one(1), one(2)
            print(
                f"{what}: 1 worker {alone:.1f} s, 2 workers {both:.1f} s, efficiency {alone / both / 2:.0%}"
            )
            print(
                f"{what}: {cpu / cells:.2f} s of CPU a cell of {cells}, samples on {len(kernels)} kernels"
            )

        paths = fresh(directory)
        figures("processes", lambda jobs: ran(fresh(directory), kernels, Local(jobs)))
        ran(paths, kernels, Local())
        _, built = ran(paths, kernels, Local(), again=True)
        print(f"built before: {built / cells:.2f} s of CPU a cell: all but the compiler")
        print(f"unchanged: {ran(paths, kernels, Local())[0]:.2f} s for {cells} cells")
        if arguments.dask:
            from lkm.matrix.dask import Dask

            def through_dask(workers: int) -> tuple[float, float]:
                with cluster(workers) as address:
                    return ran(fresh(directory), kernels, Dask(address))

            figures("dask", through_dask)


if __name__ == "__main__":
    main()
