"""What the settle time and the look at what is left behind add to a run in which nothing is wrong.

    python -m bench.settle [--kernel K] [--runs N] [--json]

Whole `lkm run` processes of samples, with and without (`--settle 0`), in turn; medians.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.speed import command, in_turn
from lkm.kernels import store

SAMPLES = ("hello", "params", "procfs", "chardev", "netdev")
HOME = Path(__file__).parents[1] / "examples"


def added(name: str, kernel: str, runs: int) -> dict[str, float]:
    """Seconds of a run with, without, and the difference."""
    words = ("run", "--kernel", kernel, str(HOME / name))
    watched, plain = in_turn(runs, command(*words), command(*words, "--settle", "0"))
    return {"watched": watched, "plain": plain, "added": watched - plain}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    release = store.get(arguments.kernel).release
    rows = {name: added(name, release, arguments.runs) for name in SAMPLES}
    if arguments.json:
        print(json.dumps({"kernel": release, "seconds": rows}, indent=1))
    else:
        print(f"{release}, medians of {arguments.runs}, seconds; the limit is 0.05 added")
        for name, row in rows.items():
            print(f"  {name:<10}", *(f"{what} {figure:.3f}" for what, figure in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
