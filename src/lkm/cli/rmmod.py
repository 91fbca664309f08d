"""Unload a module from a machine that is up. As rmmod(8) it says nothing when all is well."""

from __future__ import annotations

import argparse

from lkm.cli.common import add_machine, attached


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm rmmod` takes."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="a module's name, or its .ko")
    add_machine(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm rmmod`."""
    from lkm.verbs import rmmod

    with attached(arguments) as machine:
        for name in arguments.names:
            rmmod(machine, name)
    return 0
