"""Start a machine that stays until `lkm down`: restored, with a clock that runs as ours does.

The first time for a kernel it is booted and frozen, which takes some seconds.
"""

from __future__ import annotations

import argparse

from lkm.cli.common import add_json, add_kernel, kernel_named
from lkm.cli.render import print_json, working
from lkm.kernels.kernel import Kernel
from lkm.progress import Progress
from lkm.vm.named import Named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm up` takes."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default="default", help="its name (default: default)"
    )
    add_kernel(parser)
    add_json(parser)
    parser.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="its memory (default: 128 MiB; 256 for a debug kernel)",
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm up`."""
    with working(quiet=arguments.json) as progress:
        kernel = kernel_named(arguments.kernel, progress)
        machine = raise_machine(
            arguments.name, kernel, progress, wanted=arguments.kernel, memory_mib=arguments.memory
        )
    if arguments.json:
        print_json({"schema": 1, **machine.to_dict()})
    else:
        print(f"{machine.name} is up: {machine.release}")
    return 0


def raise_machine(
    name: str,
    kernel: Kernel,
    progress: Progress,
    *,
    wanted: str | None = None,
    memory_mib: int | None = None,
) -> Named:
    """A machine that stays, booted and frozen first where that was not done yet."""
    from lkm.vm import accel, named, snapshot
    from lkm.vm.qemu import Clock

    config = accel.machine_config(
        kernel, clock=Clock.REAL, memory_mib=memory_mib, progress=progress
    )
    frozen = snapshot.prepare(kernel, config, progress=progress)
    return named.up(name, frozen, kernel=wanted if kernel.provider in ("tree", "host") else None)
