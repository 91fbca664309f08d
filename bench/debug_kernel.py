"""What the debug kernel costs: `python -m bench.debug_kernel`, and with `--build` its build from nothing, too.

The first takes half a minute where the kernel is in the store, the second ten to fifteen minutes on two cores
and a store of its own in a temporary directory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import lkm
from bench import stores
from lkm.ko import read_image
from lkm.unfreed import unfreed

MODULE = Path(__file__).parents[1] / "tests" / "data" / "modules" / "sanitize.c"
RUNS = 5
LIMITS = {"build": 720.0, "kept": 250e6, "leak": 3.0}
"""What was promised: seconds to build, bytes that are kept, seconds for the question what was not freed."""


class Steps:
    """A measurement's progress, which nobody wants to see."""

    def step(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        pass


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def row(what: str, value: str, limit: str = "") -> None:
    print(f"{what:<44}{value:>12}{limit:>14}")


def build() -> None:
    """The kernel from nothing, source and packages fetched, in a store that goes afterwards."""
    with stores.own():
        took = seconds(lambda: lkm.kernel("debug", progress=Steps()))
        kept = lkm.kernel("debug", fetch=False).facts.disk_bytes or 0
    row("built, with all that is fetched", f"{took:.0f} s", f"{LIMITS['build']:.0f} s")
    row("kept", f"{kept / 1e6:.0f} MB", f"{LIMITS['kept'] / 1e6:.0f} MB")


def runs() -> None:
    """A module in fresh machines: to restore, load and unload it, and to ask what it has not freed."""
    kernel = lkm.kernel("debug", fetch=False)
    image = read_image(lkm.build(MODULE, kernel)["sanitize"].path)
    row("booted and frozen, once (0 where it was)", f"{seconds(kernel.frozen):.1f} s")
    for what in ("nothing", "leak"):
        times: dict[str, list[float]] = {"restore": [], "load": [], "unload": [], "unfreed": []}
        for _ in range(RUNS):
            started = time.monotonic()
            with kernel.machine() as vm:
                machine = vm.machine
                machine.ping()
                times["restore"].append(time.monotonic() - started)
                times["load"].append(machine.load(image, f"what={what}").seconds)
                times["unload"].append(machine.unload("sanitize").seconds)
                started = time.monotonic()
                found = unfreed(machine, "sanitize")
                times["unfreed"].append(time.monotonic() - started)
                assert len(found) == (what == "leak"), found
        for stage, each in times.items():
            limit = f"{LIMITS['leak']:.0f} s" if stage == "unfreed" else ""
            row(f"{what}: {stage}", f"{statistics.median(each):.3f} s", limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", action="store_true", help="build the kernel from nothing, too")
    arguments = parser.parse_args()
    print(f"{'debug kernel':<44}{'median':>12}{'limit':>14}")
    runs()
    if arguments.build:
        build()


if __name__ == "__main__":
    main()
