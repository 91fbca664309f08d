"""Failed calls a second, and the planted bugs on several series.

    .venv/bin/python -m bench.faults [--runs N] [--kernel K]    faults a second, on all cores
    .venv/bin/python -m bench.faults --planted [-k 5.10 -k 6.1 -k 6.12 -k 7.3]

Nothing here is a test. What is aimed at is at least 5 faults a second on 2 cores; --planted builds 36 modules
for each kernel and says WRONG where a bug was not found, or one was in a corrected twin.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from lkm.errors import ModuleFailure
from lkm.faults.campaign import Campaign, Faults, subject_of
from lkm.kernels import store

ROOT = Path(__file__).parents[1]
PLANTED = ROOT / "tests" / "data" / "faults"
EXERCISED = {"read_leak", "read_locked"}


def measured(kernel: str | None, runs: int) -> None:
    """Faults a second of a module that makes 24 such calls, nothing taken from earlier runs."""
    subject = subject_of(ROOT / "tests" / "data" / "interpose" / "many.c", store.get(kernel))
    Campaign(subject).only(1)  # boots the machine that is frozen, where there is none
    rates = []
    for _ in range(runs):
        started = time.perf_counter()
        found = Campaign(subject, again=True).all()
        rates.append(len(found.faults) / (time.perf_counter() - started))
    print(f"{len(found.faults)} faults; a second: median {statistics.median(rates):.1f} of {runs}")


def faults_of(name: str, kernel: str) -> Faults:
    """What `lkm faults` finds in one of the planted modules."""
    base = name.removesuffix("_fixed")
    command = f"cat /proc/{base}" if base in EXERCISED else None
    subject = subject_of(PLANTED, store.get(kernel), module=name, command=command)
    return Campaign(subject, again=True).all()


def planted(kernels: list[str]) -> None:
    """Every planted bug and every twin, on each kernel."""
    names = sorted(path.stem for path in PLANTED.glob("*.c"))
    for kernel in kernels:
        wrong = sum(not is_as_planted(name, kernel) for name in names)
        print(f"{kernel}: {len(names)} modules, {wrong} not as they should be")


def is_as_planted(name: str, kernel: str) -> bool:
    """Whether the bug was found, or the twin was silent; says what came of each fault."""
    try:
        found = faults_of(name, kernel)
    except ModuleFailure as error:
        print(f"WRONG {kernel} {name}: {error}", flush=True)
        return False
    is_right = found.ok == name.endswith("_fixed")
    results = ", ".join(fault.result.value for fault in found.faults)
    print(f"{'     ' if is_right else 'WRONG'} {kernel} {name}: {results}", flush=True)
    return is_right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-k", "--kernel", action="append")
    parser.add_argument("--planted", action="store_true")
    arguments = parser.parse_args()
    if arguments.planted:
        planted(arguments.kernel or ["5.10", "6.1", "6.12", "7.3"])
    else:
        measured((arguments.kernel or [None])[0], arguments.runs)


if __name__ == "__main__":
    main()
