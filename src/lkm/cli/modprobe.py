"""Load one of the kernel's own modules into a machine that is up, with those that it needs before it.

As modprobe(8) it says nothing when all is well, and leaves alone what is loaded already.
"""

from __future__ import annotations

import argparse

from lkm.cli.common import add_machine, attached, kernel_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm modprobe` takes."""
    parser.add_argument("name", metavar="NAME", help="the module's name, or an alias of it")
    parser.add_argument("params", metavar="param=value", nargs="*", help="module parameters")
    add_machine(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm modprobe`."""
    from lkm.cli.insmod import load, wanted
    from lkm.kernels.modules import find

    kernel = kernel_of(arguments)
    chosen = wanted(find(kernel, arguments.name), arguments.params, kernel)
    with attached(arguments) as machine:
        if chosen.target.name not in {module.name for module in machine.modules()}:
            load(machine, chosen, kernel)
    return 0
