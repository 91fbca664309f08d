"""Load a module into a machine that is up, with the kernel's own modules that it needs before it.

As insmod(8) it says nothing when all is well. A source is built first.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkm.cli.common import add_host, add_machine, attached, kernel_of
from lkm.cli.render import working
from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Machine
    from lkm.preflight import Preflight
    from lkm.targets import Target, Targets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm insmod` takes."""
    parser.add_argument("module", metavar="MODULE", help="a .ko, or a source with one module")
    parser.add_argument("params", metavar="param=value", nargs="*", help="module parameters")
    add_machine(parser)
    add_host(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm insmod`."""
    return _on_host(arguments) if arguments.host else _on_guest(arguments)


def _on_guest(arguments: argparse.Namespace) -> int:
    kernel = kernel_of(arguments)
    wanted = _wanted(arguments, kernel)
    with attached(arguments) as machine:
        _load(machine, wanted, kernel)
    return 0


def _on_host(arguments: argparse.Namespace) -> int:
    from lkm.cli.on_host import kernel_for, preflight_for, visiting

    with visiting(arguments, "insmod") as machine:
        with working() as progress:
            kernel = kernel_for(arguments.module, progress)
        wanted = _wanted(arguments, kernel)
        _load(machine, wanted, kernel, preflight_for(kernel))
    return 0


@dataclass(frozen=True)
class _Wanted:
    target: Target
    targets: Targets
    arguments: str


def _wanted(arguments: argparse.Namespace, kernel: Kernel) -> _Wanted:
    from lkm.params import parse_assignments
    from lkm.targets import assign, targets_of

    params = parse_assignments(arguments.params)
    with working() as progress:
        targets = targets_of(arguments.module, kernel, progress=progress)
    if len(targets.named) != 1:
        names = ", ".join(str(target.path) for target in targets.named)
        raise UsageError(
            f"{arguments.module} holds {len(targets.named)} modules",
            hint=f"lkm insmod one of {names}",
        )
    (target,) = targets.named
    return _Wanted(target, targets, assign(targets.named, params)[target.name])


def _load(
    machine: Machine, wanted: _Wanted, kernel: Kernel, preflight: Preflight | None = None
) -> None:
    from lkm.decoding import Decoder
    from lkm.targets import needs_of
    from lkm.verbs import insmod

    loaded = {module.name for module in machine.modules()}
    needs = needs_of(wanted.target, wanted.targets.all, kernel, loaded=loaded)
    if preflight and (refusal := preflight.refusal(wanted.target, wanted.targets.all, loaded)):
        raise refusal.error()
    machine.load_needs(needs)
    insmod(machine, wanted.target, wanted.arguments, decode=Decoder(kernel, wanted.targets))
