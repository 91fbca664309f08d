"""End a machine that stays, and remove what it left. Nothing in it is saved."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm down` takes."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="which (default: the only one that is up)"
    )
    parser.add_argument("--all", action="store_true", help="every machine that is up")


def main(arguments: argparse.Namespace) -> int:
    """`lkm down`."""
    from lkm.vm import named

    chosen = named.machines() if arguments.all else [named.find(arguments.name)]
    for machine in chosen:
        named.down(machine)
        print(f"{machine.name} is down")
    return 0
