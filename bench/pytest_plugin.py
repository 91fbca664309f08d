"""What a test with a fresh kernel costs, beside an empty one: medians, in seconds of wall time.

    python -m bench.pytest_plugin [--runs N] [--json]

Under a minute a run on a quiet machine. Nothing here is a test: the figures depend on the computer, the ratios
less so. The plugins of hypothesis and pytest-timeout, which are no part of lkm, are left out.
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
from pathlib import Path

HELLO = Path(__file__).parents[1] / "examples" / "hello"
FEW, COUNT = 25, 100
TESTS = {
    "empty": "def test_it(n): pass",
    "loads": "def test_it(insmod, n): insmod()",
}
MANY = "import pytest\n@pytest.mark.parametrize('n', range({count}))\n{test}\n"
NOT_AHEAD = """
from lkm.pytest_plugin.session import Session
Session.restore_ahead = lambda *_: None
"""
PYTEST = (
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:timeout",
)
IMPORTS = (
    "import pytest, time; t = time.perf_counter();"
    "import lkm.pytest_plugin.hooks; print(time.perf_counter() - t)"
)


def seconds(home: Path, *words: str) -> float:
    """Wall time of a whole pytest, its start included. Raises CalledProcessError when a test fails."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *PYTEST, *words], cwd=home, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def on_one_core(home: Path, *words: str) -> float:
    """As `seconds`, pytest and its QEMUs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        return seconds(home, *words)
    finally:
        os.sched_setaffinity(0, before)


def import_cost() -> float:
    """Seconds that importing the plugin takes where pytest is there already."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def write_tests(home: Path) -> None:
    """The module, and tests of it: a few and many, empty and loading."""
    for name in ("Makefile", "hello.c"):
        shutil.copy(HELLO / name, home)
    (home / "not_ahead.py").write_text(NOT_AHEAD)
    for name, test in TESTS.items():
        for count in (FEW, COUNT):
            (home / f"test_{name}_{count}.py").write_text(MANY.format(count=count, test=test))


def once(home: Path) -> dict[str, float]:
    """Each job once, so that drift hits all of them alike."""
    few, ahead_off = f"test_loads_{FEW}.py", ("-p", "not_ahead")
    return {
        f"{FEW} empty tests, one core": on_one_core(home, f"test_empty_{FEW}.py"),
        f"{COUNT} empty tests, one core": on_one_core(home, f"test_empty_{COUNT}.py"),
        f"{FEW} tests that load and unload, one core": on_one_core(home, few),
        "  the same, not restored ahead": on_one_core(home, few, *ahead_off),
        f"{COUNT} tests that load and unload, one core": on_one_core(
            home, f"test_loads_{COUNT}.py"
        ),
        f"{FEW} tests that load and unload, two cores": seconds(home, few),
        "  the same, not restored ahead, two cores": seconds(home, few, *ahead_off),
        f"{COUNT} empty tests, -n 2: what the start costs": seconds(
            home, f"test_empty_{COUNT}.py", "-n", "2"
        ),
        f"{COUNT} tests that load and unload, -n 2": seconds(
            home, f"test_loads_{COUNT}.py", "-n", "2"
        ),
        "import of the plugin, over pytest's": import_cost(),
    }


def measured(runs: int) -> dict[str, float]:
    """The figures."""
    with tempfile.TemporaryDirectory() as path:
        home = Path(path)
        os.environ["PYTHONPATH"] = path
        write_tests(home)
        seconds(home, f"test_loads_{FEW}.py", "-k", "[0]")
        rounds = [once(home) for _ in range(runs)]
    rows = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    empty, empties, loads, not_ahead, many, free, free_not_ahead, *_ = rows.values()
    more = COUNT - FEW
    each = (many - loads) / more
    return rows | {
        "a load and unload over an empty test, one core": each - (empties - empty) / more,
        "  what a run with such tests costs besides, once": loads - empty - each * FEW,
        "  what restoring ahead saves a test on one core": (not_ahead - loads) / FEW,
        "  what restoring ahead saves a test on two cores": (free_not_ahead - free) / FEW,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
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
