"""Load a module into a machine that is up, with the kernel's own modules that it needs before it.

As insmod(8) it says nothing when all is well. A source is built first.
"""

from __future__ import annotations

import argparse

from lkm.cli.common import add_machine, attached, kernel_of
from lkm.cli.render import working


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm insmod` takes."""
    parser.add_argument("module", metavar="MODULE", help="a .ko, or a source with one module")
    parser.add_argument("params", metavar="param=value", nargs="*", help="module parameters")
    add_machine(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm insmod`."""
    from lkm.errors import UsageError
    from lkm.params import parse_assignments
    from lkm.targets import assign, dependencies, targets_of
    from lkm.verbs import insmod
    from lkm.vm.machine import load_all

    params = parse_assignments(arguments.params)
    kernel = kernel_of(arguments)
    with working() as progress:
        targets = targets_of(arguments.module, kernel, progress=progress)
    if len(targets.named) != 1:
        names = ", ".join(str(target.path) for target in targets.named)
        raise UsageError(
            f"{arguments.module} holds {len(targets.named)} modules",
            hint=f"lkm insmod one of {names}",
        )
    (target,) = targets.named
    words = assign(targets.named, params)[target.name]
    with attached(arguments) as machine:
        loaded = {module.name for module in machine.modules()}
        load_all(machine, list(dependencies(target, targets.all, kernel, loaded=loaded)))
        insmod(machine, target, words)
    return 0
