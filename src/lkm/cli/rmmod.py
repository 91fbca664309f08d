"""Unload a module from a machine that is up. As rmmod(8) it says nothing when all is well."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from lkm.cli.common import add_host, add_machine, attached

if TYPE_CHECKING:
    from lkm.machine import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm rmmod` takes."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="a module's name, or its .ko")
    add_machine(parser)
    add_host(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm rmmod`."""
    from lkm.verbs import rmmod

    with _machine(arguments) as machine:
        for name in arguments.names:
            rmmod(machine, name)
    return 0


def _machine(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[Machine]:
    if not arguments.host:
        return attached(arguments)
    from lkm.cli.on_host import visiting

    return visiting(arguments, "rmmod")
