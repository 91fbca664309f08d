"""The kernel's own fault injection beside lkm's: `python -m bench.fault_injection [NAME ...]`.

Each planted bug on the debug kernel: with /proc/self/fail-nth, the n-th call in the module's init, use and
exit, each from a frozen machine, until nothing fails any more; and with `lkm faults --kernel debug`. Takes some
minutes for those that docs/explanation/interposition.md shows, where the kernel is in the store.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lkm
from bench.faults import EXERCISED, PLANTED
from lkm.errors import LkmError
from lkm.faults.campaign import Campaign, subject_of
from lkm.leaks import problems
from lkm.unfreed import unfreed

PROGRAM = Path(__file__).parent / "fail_nth.c"
SHOWN = ("third_kfree", "free_twice", "use_null", "read_leak", "read_locked", "numbers_left")
KINDS = ("failslab", "fail_page_alloc", "fail_usercopy")
DEBUGFS = "/sys/kernel/debug"
AREA = "0xffffffffa0000000", "0xffffffffff000000"
"""Where modules are on x86_64 without CONFIG_RANDOMIZE_BASE; with it they begin at 0xffffffffc0000000
(arch/x86/include/asm/page_64_types.h, pgtable_64_types.h, 6.12)."""
MOST = 24


@dataclass(frozen=True)
class Tried:
    """One call that fault injection was to fail."""

    stage: str
    n: int
    fired: bool
    failed: str
    said: str
    found: tuple[str, ...]


def prepared(kernel: lkm.Kernel, name: str) -> lkm.Snapshot:
    """A machine with the program, the module, and the filters set to calls from the module area."""
    module = lkm.build(PLANTED / f"{name}.c", kernel)[name]
    with kernel.machine(timeout=20.0) as vm:
        vm.compile(PROGRAM)
        vm.path("/tmp/it.ko").write_bytes(Path(module.target.image).read_bytes())
        for kind in KINDS:
            home = f"{DEBUGFS}/{kind}"
            vm.path(f"{home}/stacktrace-depth").write_text("32")
            vm.path(f"{home}/require-start").write_text(AREA[0])
            vm.path(f"{home}/require-end").write_text(AREA[1])
            ignores = vm.path(f"{home}/ignore-gfp-wait")
            if ignores.exists():
                ignores.write_text("N")
        return vm.snapshot()


def tried(machine: lkm.Snapshot, name: str, stage: str, n: int) -> Tried:
    """Have the n-th call of a stage fail, and look what the kernel says."""
    words = ["fail_nth", stage, str(n), "/tmp/it.ko", name]
    words += [f"/proc/{name}"] if name in EXERCISED else []
    with machine.machine() as vm:
        try:
            said = vm.run(words).text
        except LkmError as error:
            said = f"left 0 {error.summary}"
        found = [str(problem.kind) for problem in vm.problems]
        if vm.is_running and not found:
            left = problems(unfreed(vm.machine, name), name)
            found += [str(problem.kind) for problem in left]
        log = list(vm.log)
    dumped = (re.search(r"^name (\w+), interval", record.text, re.M) for record in log)
    what = next((match[1] for match in dumped if match), "a call with __GFP_NOWARN")
    fired = "left 0" in said or bool(found)
    return Tried(stage, n, fired, what, " ".join(said.split()), tuple(found))


def by_fail_nth(kernel: lkm.Kernel, name: str) -> Iterator[Tried]:
    """Every call that it can fail, and in each stage the first n for which none does."""
    with prepared(kernel, name) as machine:
        for stage in ("init", "use", "exit") if name in EXERCISED else ("init", "exit"):
            for n in range(1, MOST + 1):
                yield (each := tried(machine, name, stage, n))
                if not each.fired:
                    break


def by_lkm(kernel: lkm.Kernel, name: str) -> list[str]:
    """What `lkm faults` makes of each call."""
    command = f"cat /proc/{name}" if name in EXERCISED else None
    subject = subject_of(PLANTED, kernel.facts, module=name, command=command)
    return [fault.result.value for fault in Campaign(subject, again=True).all().faults]


def compare(kernel: lkm.Kernel, name: str) -> None:
    """Both, with their times."""
    started = time.monotonic()
    for each in by_fail_nth(kernel, name):
        said = ", ".join(each.found) or "nothing found"
        what = each.failed if each.fired else "nothing more"
        print(f"{name}: {each.stage} {each.n}: {what}: {each.said}: {said}", flush=True)
    between = time.monotonic()
    results = by_lkm(kernel, name)
    print(f"{name}: lkm faults: {', '.join(results)}")
    print(f"{name}: {between - started:.1f} s, {time.monotonic() - between:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", default=SHOWN)
    kernel = lkm.kernel("debug", fetch=False)
    for name in parser.parse_args().names:
        compare(kernel, name)


if __name__ == "__main__":
    main()
