"""What the settle time and the look at what is left behind add to a run in which nothing is wrong.

    python -m bench.settle [--kernel K] [--runs N] [--json] [--track]

Whole `lkm run` processes of samples, with and without (`--settle 0`), in turn; medians. With --track what that
option adds instead: it would be the default below 0.02 s.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.speed import command, in_turn
from lkm.kernels import store

HOME = Path(__file__).parents[1]
SAMPLES = {
    name: (f"examples/{name}",) for name in ("hello", "params", "procfs", "chardev", "netdev")
}
LATER = {"once": ("tests/data/modules/once.c", "what=timer")}
"""Is unloaded at once on a second machine, too."""


def added(source: tuple[str, ...], kernel: str, runs: int, track: bool) -> dict[str, float]:
    """Seconds of a run with, without, and the difference."""
    words = ("run", "--kernel", kernel, str(HOME / source[0]), *source[1:])
    more, less = ((*words, "--track"), words) if track else (words, (*words, "--settle", "0"))
    watched, plain = in_turn(runs, command(*more), command(*less))
    return {"watched": watched, "plain": plain, "added": watched - plain}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--track", action="store_true")
    arguments = parser.parse_args()
    release = store.get(arguments.kernel).release
    sources = SAMPLES | LATER
    rows = {
        name: added(source, release, arguments.runs, arguments.track)
        for name, source in sources.items()
    }
    if arguments.json:
        print(json.dumps({"kernel": release, "seconds": rows}, indent=1))
    else:
        limit = 0.02 if arguments.track else 0.05
        print(f"{release}, medians of {arguments.runs}, seconds; the limit is {limit} added,")
        print(f"but for {', '.join(LATER)}, which gets a second machine")
        for name, row in rows.items():
            print(f"  {name:<10}", *(f"{what} {figure:.3f}" for what, figure in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
