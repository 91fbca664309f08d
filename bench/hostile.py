"""Every attack of tests/data/hostile on several kernels: `python -m bench.hostile [KERNEL...]`."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "tests" / "data" / "hostile"
KERNELS = ("5.10", "6.12", "7.3")


def attacks() -> list[str]:
    """The names in the tables of the sources."""
    texts = (path.read_text() for path in sorted(SOURCE.glob("*.c")))
    return [name for text in texts for name in re.findall(r'^\t\{ "(\w+)"', text, re.MULTILINE)]


def attempt(attack: str, kernel: str) -> tuple[str, float]:
    """The verdict with its reason, or lkm's own words where there is none; and the seconds that it took."""
    words = [sys.executable, "-m", "lkm", "run", str(SOURCE), f"attack={attack}"]
    started = time.monotonic()
    done = subprocess.run(
        [*words, "--kernel", kernel, "--json", "--timeout", "5"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - started
    if done.returncode not in (0, 1):
        return f"NO VERDICT, exit code {done.returncode}: {done.stderr.strip()}", seconds
    (module,) = json.loads(done.stdout)["modules"]
    return f"{module['verdict']:14} {module['reason'] or ''}", seconds


def main(kernels: list[str]) -> int:
    """Print a line for each attack on each kernel; the exit code counts those without a verdict."""
    failed = 0
    for kernel in kernels or KERNELS:
        for attack in attacks():
            said, seconds = attempt(attack, kernel)
            failed += said.startswith("NO VERDICT")
            print(f"{kernel:8} {attack:20} {seconds:5.1f} s  {said[:90]}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"without a verdict: {failed}; most memory of lkm and what it waited for: {peak} MiB")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
