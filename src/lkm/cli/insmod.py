"""Load a module into a machine that is up, with the kernel's own modules that it needs before it.

As insmod(8) it says nothing when all is well. A source is built first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    chosen = wanted(arguments.module, arguments.params, kernel)
    with attached(arguments) as machine:
        load(machine, chosen, kernel)
    return 0


def _on_host(arguments: argparse.Namespace) -> int:
    from lkm.cli.on_host import kernel_for, preflight_for, visiting

    with visiting(arguments, "insmod") as machine:
        with working() as progress:
            kernel = kernel_for(arguments.module, progress)
        chosen = wanted(arguments.module, arguments.params, kernel)
        load(machine, chosen, kernel, preflight_for(kernel))
    return 0


@dataclass(frozen=True)
class Wanted:
    """A module to load, with its arguments."""

    target: Target
    targets: Targets
    arguments: str


def wanted(path: str | Path, words: Sequence[str], kernel: Kernel) -> Wanted:
    """The one module of a path, built where it is a source. Raises UsageError where there are several."""
    from lkm.params import parse_assignments
    from lkm.targets import assign, targets_of

    params = parse_assignments(words)
    with working() as progress:
        targets = targets_of(path, kernel, progress=progress)
    if len(targets.named) != 1:
        names = ", ".join(str(target.path) for target in targets.named)
        raise UsageError(
            f"{path} holds {len(targets.named)} modules",
            hint=f"lkm insmod one of {names}",
        )
    (target,) = targets.named
    return Wanted(target, targets, assign(targets.named, params)[target.name])


def load(
    machine: Machine, chosen: Wanted, kernel: Kernel, preflight: Preflight | None = None
) -> None:
    """Load what it needs, and then it. Raises LoadError, KernelProblem."""
    from lkm.decoding import Decoder
    from lkm.targets import needs_of
    from lkm.verbs import insmod

    loaded = {module.name for module in machine.modules()}
    needs = needs_of(chosen.target, chosen.targets.all, kernel, loaded=loaded)
    if preflight and (refusal := preflight.refusal(chosen.target, chosen.targets.all, loaded)):
        raise refusal.error()
    machine.load_needs(needs)
    insmod(machine, chosen.target, chosen.arguments, decode=Decoder(kernel, chosen.targets))
