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
from lkm.vm.qemu import Clock, Config

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
HUNG = 60.0
"""Seconds for a way that does not come back; the clock of these guests is virtual."""


def machine(kernel: Kernel, way: str) -> Machine:
    """A fresh machine for a way to go wrong."""
    chosen = accel.machine_config(kernel)
    config = Config(kernel.arch, accel=chosen.accel, append=APPEND.get(way, ""))
    if way in ("spin", "stall"):  # one CPU spins, and virtual time goes by its instructions
        config = replace(config, clock=Clock.REAL, cpus=2)
    frozen = snapshot.prepare(kernel, config)
    return Machine(snapshot.restore(frozen), release=kernel.release, restored_from=frozen.path)


def capture(kernel: Kernel, way: str, image: bytes, timeout: float) -> list[Record]:
    """What the kernel says to a module that is loaded and, where it comes to that, unloaded."""
    with machine(kernel, way) as guest:
        guest.ping()
        if way == "wait_for_ever":
            guest.write("/proc/sys/kernel/hung_task_timeout_secs", b"2\n")
        own = way in OWN
        words = "" if own else f"what={'spin' if way == 'stall' else way}"
        load = guest.load(image, words, timeout=timeout)
        records = list(load.records)
        if load.end == "done" and load.errno == 0:
            records += guest.unload(way if own else "crash", timeout=timeout).records
    return records


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


def series(name: str, kernel: Kernel, ways: Iterable[str], out: Path) -> None:
    """All ways on one kernel."""
    target = out / name
    target.mkdir(parents=True, exist_ok=True)
    images = {}
    for module in ("crash", *OWN):
        shutil.copy(MODULES / f"{module}.c", BUILD)
        built = kbuild.build(sources.find(BUILD / f"{module}.c"), kernel).objects[module]
        images[module] = ko.read_image(built.stripped)
        if module == "crash":
            packed = lzma.compress(built.path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
            objects = OBJECTS / name
            objects.mkdir(parents=True, exist_ok=True)
            (objects / "crash.ko.xz").write_bytes(packed)
            answers = lzma.compress(_answers(kernel, built.path))
            (objects / "crash.addr2line.xz").write_bytes(answers)
    for way in ways:
        records = capture(kernel, way, images.get(way, images["crash"]), HUNG)
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
    parser.add_argument("--only", nargs="+", metavar="WAY", default=[*WAYS, *OWN])
    parser.add_argument("--out", type=Path, default=LOGS)
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    for word in arguments.kernels:
        name, _, release = word.partition("=")
        series(name, store.get(release), arguments.only, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
