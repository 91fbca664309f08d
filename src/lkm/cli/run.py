"""Build a module source for a kernel, load it in a fresh machine, and say what became of it.

SOURCE is a directory with a Makefile, Kbuild or dkms.conf, a single .c file, a .ko, or a Debian package like
v4l2loopback-dkms, which is fetched. Each of its modules gets a machine of its own, restored from a frozen
one, with the modules it needs loaded first.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lkm.cli.common import add_host, add_json, add_kernel, kernel_named
from lkm.cli.render import print_json, working
from lkm.cli.staying import Staying
from lkm.errors import BuildError, ModuleFailure, UsageError

if TYPE_CHECKING:
    from lkm.interpose.tracker import Tracker
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Guest, Machine
    from lkm.progress import Progress
    from lkm.run import Limits, Rig, Run
    from lkm.targets import Target, Targets
    from lkm.twin import Addresses

_TIMEOUT = 30.0
_SETTLE_LIMIT = 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm run` takes."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a directory, a .c file, a .ko, or a Debian package: NAME-dkms[@SUITE]",
    )
    parser.add_argument(
        "params", metavar="param=value", nargs="*", help="module parameters, as for insmod"
    )
    add_kernel(parser)
    add_json(parser)
    parser.add_argument("--module", metavar="NAME", help="of several modules, only this one")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        default=_TIMEOUT,
        help="seconds that each load and each unload may take (default: %(default)g)",
    )
    parser.add_argument(
        "--settle",
        type=float,
        metavar="S",
        help="seconds of the guest's time to watch it after the load and after the unload; 0: not at all "
        "(default: 2; 0.2 on a real clock; 0 with --host)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the machine up afterwards")
    parser.add_argument(
        "--track",
        action="store_true",
        help="see what the module took and did not give back, and what it freed wrongly",
    )
    add_host(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm run`."""
    if arguments.timeout <= 0:
        raise UsageError(f"--timeout {arguments.timeout:g}", hint="give seconds, more than 0")
    if arguments.settle is not None and not 0 <= arguments.settle <= _SETTLE_LIMIT:
        raise UsageError(
            f"--settle {arguments.settle:g}", hint=f"give seconds, 0 to {_SETTLE_LIMIT:g}"
        )
    return _on_host(arguments) if arguments.host else _on_guests(arguments)


def _on_guests(arguments: argparse.Namespace) -> int:
    from lkm.kernels.dkms import located

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(working(quiet=arguments.json))
        arguments.source = located(arguments.source, progress=progress)
        kernel = kernel_named(arguments.kernel, progress)
        tracker = _tracker(kernel, progress) if arguments.track else None
        kept = Staying(kernel, progress, arguments.kernel) if arguments.keep else None
        make, twin = _makers(kernel, progress, kept, stack, tracker)
        # QEMU is on its way: what follows imports the rest of lkm meanwhile.
        rig = _rig(arguments, kernel, tracker, make, twin)
        outcome = _run(arguments, kernel, rig, progress)
    return _show(arguments, outcome, kept.names if kept else ())


def _tracker(kernel: Kernel, progress: Progress) -> Tracker:
    from lkm.interpose.tracker import tracker_for

    return tracker_for(kernel, progress=progress)


def _rig(
    arguments: argparse.Namespace,
    kernel: Kernel,
    tracker: Tracker | None,
    make: Callable[[str], Machine],
    twin: Callable[[], Guest],
) -> Rig:
    """On guests; a module that was tracked is unloaded at once as it is, without stubs."""
    from lkm.run import Rig, twins

    limits = _limits(arguments)
    if tracker is None:
        return Rig(make, limits, where=twins(twin, kernel), another=twin)
    from lkm.interpose.track import Tracking

    tracking = Tracking(tracker, make, has_tracker=not arguments.keep)
    where = twins(tracking.twin(twin), kernel)
    return Rig(tracking.machine, limits, where=where, judged=tracking.judged, another=twin)


def _limits(arguments: argparse.Namespace) -> Limits:
    from lkm.run import Limits

    return Limits(arguments.timeout, arguments.settle)


def _on_host(arguments: argparse.Namespace) -> int:
    from lkm.cli.on_host import kernel_for, preflight_for, visiting
    from lkm.host import HostMachine
    from lkm.run import Rig

    with visiting(arguments, "run", leaves_nothing=True):
        with working(quiet=arguments.json) as progress:
            kernel = kernel_for(arguments.source, progress)
            preflight = preflight_for(kernel)
            machines: list[HostMachine] = []

            def make(module: str) -> Machine:
                machines.append(HostMachine(tidy=True))
                return machines[-1]

            def where(target: Target, targets: Targets) -> Addresses:
                return machines[-1].sections

            rig = Rig(make, _limits(arguments), preflight, where)
            outcome = _run(arguments, kernel, rig, progress)
        return _show(arguments, outcome)


def _run(arguments: argparse.Namespace, kernel: Kernel, rig: Rig, progress: Progress) -> Run:
    from lkm.params import parse_assignments
    from lkm.run import run

    params = parse_assignments(arguments.params)
    return run(
        arguments.source, kernel, rig, params=params, module=arguments.module, progress=progress
    )


def _show(arguments: argparse.Namespace, outcome: Run, kept: Sequence[str] = ()) -> int:
    if arguments.json:
        print_json(outcome.to_dict())
    else:
        from lkm.cli.story import tell

        tell(outcome, kept)
    return max((_exit_code(module.verdict) for module in outcome.modules), default=0)


def _exit_code(verdict: str) -> int:
    codes = {"ok": 0, "excluded": 0, "build-failed": BuildError.exit_code}
    return codes.get(verdict, ModuleFailure.exit_code)


def _makers(
    kernel: Kernel,
    progress: Progress,
    kept: Staying | None,
    stack: contextlib.ExitStack,
    tracker: Tracker | None,
) -> tuple[Callable[[str], Machine], Callable[[], Guest]]:
    """What makes a module's machine, and what makes another like it that is thrown away."""
    from lkm.vm.fresh import Fresh

    if kept is None:
        rootfs = tracker.rootfs if tracker else None
        fresh = stack.enter_context(Fresh(kernel, rootfs=rootfs, progress=progress))
        return lambda module: fresh.machine(), fresh.machine

    from lkm.vm.qemu import Clock

    def twin() -> Guest:
        again = Fresh(kernel, clock=Clock.REAL, progress=progress)
        return stack.enter_context(again).machine()

    return kept.machine, twin
