"""What a test pays for the guest's files, programs and copies, in medians.

    .venv/bin/python -m bench.guest_io [--runs N] [--kernel K] [--json]

Nothing here is a test: the figures depend on the computer. What is aimed at is at least 1,000 small reads a
second, and 50 MB/s for what is put into a guest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import lkm
from bench.speed import timed

READS = 1000
BULK = 24_000_000


def median(runs: int, job: Callable[[], object]) -> float:
    """The median of its seconds, after a warm-up."""
    job()
    return statistics.median(timed(job) for _ in range(runs))


def files(vm: lkm.VM, runs: int) -> dict[str, float]:
    """Small system calls on a file that is open, and what opening one costs."""
    with vm.open("/dev/zero", "r+b", buffering=0) as zero:

        def reads() -> None:
            for _ in range(READS):
                assert len(zero.read(64)) == 64

        def writes() -> None:
            for _ in range(READS):
                assert zero.write(bytes(64)) == 64

        figures = {
            "reads of 64 bytes, a second": READS / median(runs, reads),
            "writes of 64 bytes, a second": READS / median(runs, writes),
        }

    def opened() -> None:
        vm.open("/dev/zero", "rb", buffering=0).close()

    return figures | {
        "open and close a file": median(runs * 4, opened),
        "read a sysfs attribute": median(runs * 4, vm.path("/sys/kernel/uevent_seqnum").read_text),
    }


def programs(vm: lkm.VM, runs: int) -> dict[str, float]:
    """A program of the guest, from its start to its exit code."""
    return {
        "run true": median(runs * 2, lambda: vm.run(["true"]).check()),
        "run sh -c true": median(runs * 2, lambda: vm.run(["sh", "-c", "true"]).check()),
    }


def bulk(vm: lkm.VM, runs: int) -> dict[str, float]:
    """A large file into the guest's memory and out of it again."""
    with tempfile.TemporaryDirectory() as home:
        ours, back = Path(home) / "bulk", Path(home) / "back"
        ours.write_bytes(os.urandom(BULK))
        put = median(runs, lambda: vm.put(ours, "/tmp/bulk"))
        get = median(runs, lambda: vm.get("/tmp/bulk", back))
        assert back.read_bytes() == ours.read_bytes()
    vm.path("/tmp/bulk").unlink()
    return {"put, MB/s": BULK / put / 1e6, "get, MB/s": BULK / get / 1e6}


def copies(vm: lkm.VM, runs: int) -> dict[str, float]:
    """A machine frozen in use, one restored from that, and both in one."""
    snapshot = median(runs, lambda: vm.snapshot().close())
    with vm.snapshot() as taken:
        restored = median(runs, lambda: taken.machine().close())
    return {
        "a fresh machine": median(runs, lambda: vm.kernel.machine().close()),
        "take a snapshot": snapshot,
        "a machine of a snapshot": restored,
        "fork": median(runs, lambda: vm.fork().close()),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--kernel")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kernel = lkm.kernel(arguments.kernel)
    rows: dict[str, float] = {}
    with kernel.machine() as vm:
        for part in (files, programs, bulk, copies):
            print(f"{part.__name__} ...", file=sys.stderr, flush=True)
            rows |= part(vm, arguments.runs)
    if arguments.json:
        print(json.dumps({"kernel": kernel.release, "figures": rows}, indent=1))
    else:
        print(f"{kernel.release}, medians of at least {arguments.runs}, seconds unless said")
        for name, figure in rows.items():
            print(f"  {name:<55} {figure:9.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
