"""What decoding a report costs: the first of a module, in a process of its own, and those after it.

    python -m bench.decode [--runs N] [--json]

The reports are the real ones of tests/data/logs/captured, decoded by the modules that made them. The first
has the import of the decoder in it, and the reading of the object's headers. The exit code is 1 where a median
is over 0.15 s for the first or 0.01 s for the others.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.unit.no_sources import NoSources

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "tests" / "data" / "logs" / "captured"
OBJECTS = ROOT / "tests" / "data" / "symbolize"
FIRST_LIMIT, NEXT_LIMIT = 0.15, 0.01


def decode(series: str) -> list[float]:
    """Seconds for each report of a series in this process."""
    data = lzma.decompress((OBJECTS / series / "crash.ko.xz").read_bytes())
    texts = [path.read_bytes() for path in sorted((LOGS / series).glob("*.kmsg"))]
    from lkm.log import parse_kmsg
    from lkm.problems import Module, find, trace

    first, *others = [find(parse_kmsg(text)) for text in texts]
    started = time.perf_counter()
    from lkm.symbolize import DebugInfo

    modules = [Module("crash", DebugInfo(data, "crash.ko"))]
    trace(first, modules, NoSources())
    seconds = [time.perf_counter() - started]
    for found in others:
        started = time.perf_counter()
        trace(found, modules, NoSources())
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--series", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.series:
        print(json.dumps(decode(arguments.series)))
        return 0
    figures = {path.name: _measured(path.name, arguments.runs) for path in sorted(LOGS.iterdir())}
    if arguments.json:
        print(json.dumps(figures))
    else:
        for series, each in figures.items():
            print(f"{series}: first {each['first'] * 1e3:.1f} ms, then {each['next'] * 1e3:.2f} ms")
    slow = (each["first"] > FIRST_LIMIT or each["next"] > NEXT_LIMIT for each in figures.values())
    return 1 if any(slow) else 0


def _measured(series: str, runs: int) -> dict[str, float]:
    """Medians over processes."""
    words = [sys.executable, "-m", "bench.decode", "--series", series]
    found = [
        json.loads(subprocess.run(words, capture_output=True, check=True, timeout=120).stdout)
        for _ in range(runs)
    ]
    return {
        "first": statistics.median(each[0] for each in found),
        "next": statistics.median(seconds for each in found for seconds in each[1:]),
    }


if __name__ == "__main__":
    sys.exit(main())
