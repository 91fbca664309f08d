"""What a matrix costs: CPU a cell, an unchanged one, what a second worker brings, and what Dask adds.

    python -m bench.matrix [--kernels LIST] [--no-dask] [--json FILE]

Samples on the kernels of LIST, which have to be on this disk. Each part changes the sources' content, so that
make runs; frozen machines are made before anything is timed. CPU is counted by `bench.cpu`, so other people's
processes are not in it, but they make wall times and their ratios worthless. About eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import matrix_parts as parts
from bench.cpu import Spent, reap, spent
from lkm.matrix.plan import kernels_of

PACKAGES = ("rapiddisk-dkms", "vpoll-dkms")
LKM = [sys.executable, "-m", "lkm", "matrix"]


class Bench:
    """Everything that is measured, on the same kernels."""

    def __init__(self, listed: str, directory: Path) -> None:
        self.listed = listed
        self.kernels = kernels_of(listed)
        self.directory = directory
        self.rows: dict[str, float] = {}

    def put(self, what: str, figure: float, unit: str) -> None:
        """One figure, told at once."""
        self.rows[what] = round(figure, 4)
        print(f"{what.replace('_', ' '):>42}  {figure:8.3f} {unit}", flush=True)

    def part(self, name: str, *words: str) -> tuple[Spent, dict[str, Any]]:
        """A part in a process of its own, what that cost, and what it says of itself."""
        cost = spent([*_part(name, self.kernels), *words])
        return cost, json.loads(cost.output.splitlines()[-1])

    def local(self) -> None:
        """One worker and two, from the source; then with all built; then unchanged."""
        self.part("cells", "2", "0,1", "no", *parts.fresh(self.directory)[:1])
        sets = [parts.fresh(self.directory) for _ in range(3)]
        _, one = self.part("cells", "1", "0", "no", *sets[0])
        _, alone = self.part("cells", "1", "0,1", "no", *sets[1])
        both, told = self.part("cells", "2", "0,1", "no", *sets[2])
        self.put("efficiency_of_two_workers", one["wall"] / told["wall"] / 2, "of 1, a core each")
        self.put("the_same_where_one_has_both_cores", alone["wall"] / told["wall"] / 2, "of 1")
        apart = self.apart()
        self.put(
            "what_two_runs_apart_reach", one["wall"] / apart, "of 1, each on a core of its own"
        )
        self.put(
            "what_two_busy_loops_reach", parts.limit(), "of 1, the most that this computer gives"
        )
        self.put("cpu_a_cell", both.cpu / told["cells"], f"s, {told['cells']} cells, all counted")
        built, told = self.part("cells", "2", "0,1", "again", *sets[2])
        self.put(
            "cpu_a_cell_without_compiler", built.cpu / told["cells"], "s, the source built before"
        )
        self.put("seconds_a_cell", alone["wall"] / told["cells"], "s of wall time, one worker")
        kept = spent([*LKM, "--kernels", self.listed, *sets[2]])
        self.put("unchanged", kept.wall, f"s, {told['cells']} cells, whole process")
        ends = spent(
            [
                *LKM,
                "--kernels",
                f"{self.kernels[0]},{self.kernels[-1]}",
                parts.fresh(self.directory)[0],
            ]
        )
        self.put("oldest_and_newest", ends.wall, "s, hello, whole process")

    def apart(self) -> float:
        """Seconds of two runs at once that know nothing of each other, each with one worker and one core."""
        running = [
            subprocess.Popen(
                [*_part("cells", self.kernels), "1", core, "no", *parts.fresh(self.directory)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for core in ("0", "1")
        ]
        ends = [json.loads(each.communicate()[0].splitlines()[-1]) for each in running]
        reap()
        return sum(float(told["wall"]) for told in ends) / len(ends)

    def packages(self) -> None:
        """Packages of Debian, which are larger than samples."""
        cost, told = self.part("packages", *PACKAGES)
        self.put("cpu_a_package_cell", cost.cpu / told["cells"], f"s, {told['cells']} cells")

    def dask(self) -> None:
        """The same cells through a scheduler, and cells that do nothing."""
        walls = []
        for workers in (1, 2):
            sources = parts.fresh(self.directory)
            _, told = self.part("dask", str(workers), *sources)
            walls.append(told["wall"])
        self.put("efficiency_of_two_dask_workers", walls[0] / walls[1] / 2, "of 1")
        self.put("scheduler_cpu_a_cell", told["scheduler"], "s")
        self.put("dask_seconds_an_empty_cell", told["empty"], "s, two workers, nothing to do")

    def boot(self) -> None:
        """The first cell on a kernel, less what another one takes there."""
        _, told = self.part("boot", parts.fresh(self.directory)[0])
        self.put("cpu_to_boot_and_freeze", told["cpu"], "s, once a kernel and computer")
        self.put("seconds_to_boot_and_freeze", told["wall"], "s")
        self.put("kernel_download", told["download_bytes"] / 1e6, "MB")
        self.put("kernel_on_disk", told["kernel_bytes"] / 1e6, "MB, unpacked")
        self.put("frozen_on_disk", told["frozen_bytes"] / 1e6, "MB")


def _part(name: str, kernels: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "bench.matrix_parts", name, ",".join(kernels)]


def document(bench: Bench) -> dict[str, Any]:
    """The figures with where and when they were taken."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "computer": f"{os.cpu_count()} cores, {parts.processor()}",
        "load": round(os.getloadavg()[1], 1),
        "kernels": list(bench.kernels),
        "figures": bench.rows,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kernels", default="5.10..,5.10..-generic", help="LIST, as for lkm matrix"
    )
    parser.add_argument("--no-dask", action="store_true", help="no Dask cluster")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as made:
        bench = Bench(arguments.kernels, Path(made))
        bench.local()
        bench.packages()
        bench.boot()
        if not arguments.no_dask:
            bench.dask()
    print(f"{time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document(bench), indent=1) + "\n")


if __name__ == "__main__":
    main()
