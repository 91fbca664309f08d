"""What a test with a fresh kernel costs, beside an empty one: medians, in seconds of wall time.

    python -m bench.pytest_plugin [--runs N] [--json]

Nothing here is a test: the figures depend on the computer, the ratios less so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELLO = Path(__file__).parents[1] / "examples" / "hello"
COUNT = 100
EMPTY = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(n): pass\n"
LOADS = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(insmod, n): insmod()\n"


def seconds(home: Path, name: str, *words: str) -> float:
    """Wall time of a whole pytest, its start included. Raises CalledProcessError when a test fails."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, name]
    started = time.perf_counter()
    subprocess.run(argv, cwd=home, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measured(runs: int) -> dict[str, float]:
    """The figures, the jobs taking turns so that drift hits all of them."""
    with tempfile.TemporaryDirectory() as path:
        home = Path(path)
        for name in ("Makefile", "hello.c"):
            shutil.copy(HELLO / name, home)
        for name, text in (("empty", EMPTY), ("loads", LOADS)):
            (home / f"test_{name}.py").write_text(text.format(count=COUNT))
        jobs = {
            f"{COUNT} empty tests": ("test_empty.py",),
            f"{COUNT} tests that load and unload": ("test_loads.py",),
            f"{COUNT} tests that load and unload, -n 2": ("test_loads.py", "-n", "2"),
        }
        seconds(home, "test_loads.py", "-k", "[0]")
        series: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(runs):
            for name, words in jobs.items():
                series[name].append(seconds(home, *words))
    rows = {name: statistics.median(figures) for name, figures in series.items()}
    empty, loads, in_two = rows.values()
    return rows | {
        "a load and unload, over an empty test": (loads - empty) / COUNT,
        "ratio: one process / -n 2": loads / in_two,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measured(arguments.runs)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"medians of {arguments.runs}, seconds unless said")
        for name, figure in rows.items():
            print(f"  {name:<55} {figure:9.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
