"""Captures the logs of tests/data/logs/captured: each way to go wrong, on each kernel, in a fresh machine.

    python -m bench.capture SERIES=RELEASE... [--only WAY...] [--out DIR]

tests/data/modules/crash.c and its neighbours are built for RELEASE in /build and loaded with what=WAY, and what
the kernel said is written to DIR/SERIES; crash.ko with its debug info goes to tests/data/symbolize. A machine
of its own command line is booted for the ways that need one. What a kernel does not notice is not written.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.addr2line import answers_of_addr2line
from lkm import kbuild, ko
from lkm import source as sources
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.log import LEVELS, Record
from lkm.problems import find
from lkm.symbolize import DebugInfo
from lkm.vm import accel, snapshot
from lkm.vm.machine import Machine
from lkm.vm.qemu import Clock

ROOT = Path(__file__).parents[1]
MODULES = ROOT / "tests" / "data" / "modules"
LOGS = ROOT / "tests" / "data" / "logs" / "captured"
OBJECTS = ROOT / "tests" / "data" / "symbolize"
BUILD = Path("/build")
"""Where the modules are built: what the paths in the logs and in the debug info begin with."""

APPEND = {
    "spin": "watchdog_thresh=4",
    "stall": "nosoftlockup rcupdate.rcu_cpu_stall_timeout=3",
    "wait_for_ever": "hung_task_timeout_secs=2",
    "write_past_end": "slub_debug=FZPU",
    "free_twice": "slub_debug=FZPU",
    "use_after_free": "kfence.sample_interval=1",
    "free_page_twice": "debug_pagealloc=off",
    "hold_rcu": "nosoftlockup rcupdate.rcu_cpu_stall_timeout=3",
}
"""What a way needs on the kernel's command line."""

OWN = ("oops_init", "oops_exit", "warn")
"""Modules that go wrong of themselves."""

WAYS = (
    "read_null", "write_bad", "call_null", "not_canonical", "divide", "bad_opcode", "stack_segment",
    "overflow_stack", "bug_here", "warn_here", "warn_with_words", "warn_twice", "panic_here",
    "corrupt_list", "saturate", "sleep_under_spinlock", "leave_preempt_off", "leave_irqs_off", "spin",
    "stall", "wait_for_ever", "name_twice", "index_out_of_bounds", "use_after_free", "write_past_end",
    "free_twice", "odd_return", "underflow", "add_twice", "expose", "free_page_twice", "leave_cache",
    "leak_in_timer", "leak_in_work",
)  # fmt: skip
WORSE = ("lose_stack", "hold_rcu", "free_locked_page", "forget_memory")
"""The ways of worse.c; the last is seen by the debug kernel alone: `--out tests/data/logs debug=debug`."""
HUNG = 60.0
"""Seconds for a way that does not come back; the clock of these guests is virtual."""


def machine(kernel: Kernel, way: str) -> Machine:
    """A fresh machine for a way to go wrong."""
    chosen = accel.machine_config(kernel)
    config = replace(chosen, append=f"{chosen.append} {APPEND.get(way, '')}".strip())
    if way in (
        "spin",
        "stall",
        "hold_rcu",
    ):  # one CPU spins, and virtual time goes by its instructions
        config = replace(config, clock=Clock.REAL, cpus=2)
    frozen = snapshot.prepare(kernel, config)
    return Machine(snapshot.restore(frozen), release=kernel.release, restored_from=frozen.path)


def module_of(way: str) -> str:
    """The module that goes wrong in this way."""
    if way in OWN:
        return way
    return "worse" if way in WORSE else "crash"


def capture(kernel: Kernel, way: str, image: bytes, timeout: float) -> list[Record]:
    """What the kernel says to a module that is loaded and, where it comes to that, unloaded."""
    with machine(kernel, way) as guest:
        guest.ping()
        if way == "wait_for_ever":
            guest.write("/proc/sys/kernel/hung_task_timeout_secs", b"2\n")
        words = "" if way in OWN else f"what={'spin' if way == 'stall' else way}"
        load = guest.load(image, words, timeout=timeout)
        records = list(load.records)
        if load.end == "done" and load.errno == 0:
            records += _scanned(guest) if way == "forget_memory" else []
            records += guest.unload(module_of(way), timeout=timeout).records
    return records


def _scanned(guest: Machine) -> list[Record]:
    """What kmemleak finds: an object has to be some seconds old, and is told at the second scan."""
    guest.timeout = 600
    if ("-", "kmemleak") not in guest.list_dir("/sys/kernel/debug"):
        return []
    guest.write("/sys/module/kmemleak/parameters/verbose", b"1")
    records: list[Record] = []
    for _ in range(2):
        records += guest.settle(8).records
        guest.write("/sys/kernel/debug/kmemleak", b"scan")
    return [*records, *guest.settle(0).records]


def written(records: Iterable[Record]) -> tuple[str, bytes]:
    """The suffix of the file, and the records as /dev/kmsg or, where only it had some, the console has them."""
    rows = list(records)
    if any(row.seq is None for row in rows):
        lines = [f"[{row.time:12.6f}] {line}" for row in rows for line in row.text.split("\n")]
        return ".console", ("\n".join(lines) + "\n").encode()
    return ".kmsg", "".join(map(_kmsg, rows)).encode()


def _kmsg(row: Record) -> str:
    priority = row.facility << 3 | LEVELS.index(row.level or "info")
    text = row.text.replace("\\", "\\x5c").replace("\n", "\\x0a")
    fields = "".join(f" {key}={value}\n" for key, value in row.fields.items())
    return f"{priority},{row.seq},{round(row.time * 1e6)},{'c' if row.continuation else '-'};{text}\n{fields}"


def _answers(kernel: Kernel, path: Path) -> bytes:
    """What addr2line says of every row of the line tables, as JSON: (section, offset, answer) each."""
    locations = DebugInfo(path.read_bytes(), path.name).line_addresses()
    answers = answers_of_addr2line(kernel, path, locations)
    return json.dumps([(*each, it) for each, it in zip(locations, answers, strict=True)]).encode()


def _keep(name: str, kernel: Kernel, path: Path) -> None:
    """The module with its debug info, and for crash.ko what addr2line says of it."""
    objects = OBJECTS / name
    objects.mkdir(parents=True, exist_ok=True)
    packed = lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
    (objects / f"{path.name}.xz").write_bytes(packed)
    if path.stem == "crash":
        answers = lzma.compress(_answers(kernel, path))
        (objects / "crash.addr2line.xz").write_bytes(answers)


def series(name: str, kernel: Kernel, ways: Iterable[str], out: Path) -> None:
    """All ways on one kernel."""
    target = out / name
    target.mkdir(parents=True, exist_ok=True)
    images = {}
    for module in sorted(set(map(module_of, ways))):
        shutil.copy(MODULES / f"{module}.c", BUILD)
        built = kbuild.build(sources.find(BUILD / f"{module}.c"), kernel).objects[module]
        images[module] = ko.read_image(built.stripped)
        if module not in OWN:
            _keep(name, kernel, built.path)
    for way in ways:
        records = capture(kernel, way, images[module_of(way)], HUNG)
        found = [f"{each.kind} {each.function}" for each in find(records) if each.module]
        print(f"{name} {way}: {len(records)} records, {', '.join(found) or 'nothing'}", flush=True)
        if found or (way in WAYS[-3:] and find(records)):
            suffix, data = written(records)
            (target / f"{way}{suffix}").write_bytes(data)


def main() -> int:
    """Capture, and say what was found in each log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kernels", nargs="+", metavar="SERIES=RELEASE")
    parser.add_argument("--only", nargs="+", metavar="WAY", default=[*WAYS, *WORSE, *OWN])
    parser.add_argument("--out", type=Path, default=LOGS)
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    for word in arguments.kernels:
        name, _, release = word.partition("=")
        series(name, store.get(release), arguments.only, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
