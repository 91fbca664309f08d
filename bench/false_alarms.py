"""What lkm says of the kernel's own modules, which are right: each loaded and unloaded in a fresh machine.

    python -m bench.false_alarms [--kernel K] [--count N] [--track] [--json]

N modules, evenly spaced over the sorted paths. What they leave behind is listed; what of it was judged to be
true is in `bench/left_behind.py`, with the reason. Anything else is a false alarm, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.left_behind import KNOWN
from lkm.errors import HostError, MachineError
from lkm.interpose.track import Tracking
from lkm.interpose.tracker import Tracker, tracker_for
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.run import Limits, Rig, run
from lkm.verdict import ModuleRun, Verdict
from lkm.vm import accel, snapshot
from lkm.vm.fresh import Fresh


def chosen(kernel: Kernel, count: int) -> list[Path]:
    """That many of the kernel's modules."""
    assert kernel.modules_dir
    every = sorted(kernel.modules_dir.rglob("*.ko*"))
    step = max(1.0, len(every) / count)
    return [every[int(n * step)] for n in range(min(count, len(every)))]


def tried(path: Path, kernel: Kernel, tracker: Tracker | None) -> ModuleRun | str:
    """As `_tried`; where the machine broke, which tells nothing of the module, on another one."""
    try:
        return _tried(path, kernel, tracker)
    except MachineError:
        return _tried(path, kernel, tracker)


def _tried(path: Path, kernel: Kernel, tracker: Tracker | None) -> ModuleRun | str:
    """What `lkm run PATH` finds, with --track where there is a tracker; a line where a module that it needs is
    refused.
    """
    limits = Limits(timeout=120)
    try:
        with Fresh(kernel, rootfs=tracker.rootfs if tracker else None) as fresh:
            if tracker:
                tracking = Tracking(tracker, lambda module: fresh.machine())
                rig = Rig(tracking.machine, limits, judged=tracking.judged, another=fresh.machine)
            else:
                rig = Rig(lambda module: fresh.machine(), limits, another=fresh.machine)
            outcome = run(path, kernel, rig)
    except HostError as error:
        return f"{path.name}: {error.summary}"
    (module,) = outcome.modules
    return module


def alarms(module: ModuleRun) -> list[str]:
    """What is said of it that KNOWN has not."""
    said = [f"{problem.kind}: {problem.summary}" for problem in module.problems]
    if module.verdict in (Verdict.HUNG, Verdict.PANIC):
        said.append(f"{module.verdict}: {module.reason}")
    known = KNOWN.get(module.name, ())
    return [line for line in said if not any(part in line for part, _ in known)]


def main() -> int:
    """Try them and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--track", action="store_true", help="as `lkm run --track` does")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kernel = store.get(arguments.kernel)
    tracker = tracker_for(kernel) if arguments.track else None
    config = accel.machine_config(kernel)
    snapshot.prepare(kernel, replace(config, rootfs=tracker.rootfs if tracker else None))
    started = time.monotonic()
    verdicts: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    false: dict[str, list[str]] = {}
    paths = chosen(kernel, arguments.count)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(tried, paths, [kernel] * len(paths), [tracker] * len(paths)))
    for module in results:
        if isinstance(module, str):
            verdicts["needs-refused"] += 1
            print(module, file=sys.stderr)
            continue
        verdicts[module.verdict.value] += 1
        if module.problems:
            found[module.name] = [problem.summary for problem in module.problems]
        if lines := alarms(module):
            false[module.name] = lines
        print(f"{module.name}: {module.verdict} {module.reason or ''}", file=sys.stderr)
    seconds = time.monotonic() - started
    figures = {"verdicts": verdicts, "found": found, "false": false, "seconds": round(seconds, 1)}
    if arguments.json:
        print(json.dumps({"kernel": kernel.release, **figures}, indent=1))
    else:
        _show(kernel, figures)
    return 1 if false else 0


def _show(kernel: Kernel, figures: dict[str, object]) -> None:
    print(f"{kernel.release}: {figures['verdicts']} in {figures['seconds']} s")
    for title in ("found", "false"):
        lines = figures[title]
        assert isinstance(lines, dict)
        print(f"{title}: {len(lines)}")
        for name, said in lines.items():
            print(f"  {name}: {'; '.join(said)}")


if __name__ == "__main__":
    sys.exit(main())
