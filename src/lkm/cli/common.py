"""Arguments and steps that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.progress import Progress
    from lkm.vm.machine import Machine

__all__ = [
    "add_json",
    "add_kernel",
    "add_machine",
    "attached",
    "kernel_named",
    "kernel_of",
]


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """`-k/--kernel K`."""
    parser.add_argument(
        "-k",
        "--kernel",
        metavar="K",
        help="6.1, a full release, debian:trixie, tree:PATH, host (default: Debian stable's cloud kernel)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, and nothing else"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """`-m/--machine NAME`."""
    parser.add_argument(
        "-m", "--machine", metavar="NAME", help="which machine (default: the only one that is up)"
    )


def kernel_named(name: str | None, progress: Progress) -> Kernel:
    """The kernel of that name, fetched where it is not on this disk."""
    from lkm.kernels import store

    if name and not name.startswith("tree:") and Path(name, "Module.symvers").exists():
        name = f"tree:{name}"
    return store.get(name, progress=progress)


def attached(arguments: argparse.Namespace, *, with_monitor: bool = True) -> Machine:
    """A session with the machine that the arguments choose."""
    from lkm.vm import named
    from lkm.vm.attach import attach

    return attach(named.find(arguments.machine), with_monitor=with_monitor)


def kernel_of(arguments: argparse.Namespace) -> Kernel:
    """The kernel that the chosen machine runs."""
    from lkm.kernels import store
    from lkm.vm import named

    return store.get(named.find(arguments.machine).kernel, fetch=False)
