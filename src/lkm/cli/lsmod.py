"""What is loaded in a machine that is up, as lsmod(8) shows it."""

from __future__ import annotations

import argparse

from lkm.cli.common import add_host, add_json, add_machine, machine_of
from lkm.cli.render import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm lsmod` takes."""
    add_machine(parser)
    add_host(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm lsmod`."""
    from dataclasses import asdict

    with machine_of(arguments) as machine:
        loaded = machine.modules()
    if arguments.json:
        print_json({"schema": 1, "modules": [asdict(module) for module in loaded]})
        return 0
    # The columns of kmod's tools/lsmod.c.
    print(f"{'Module':<19} {'Size':>8}  Used by")
    for module in loaded:
        print(
            f"{module.name:<19} {module.size:>8}  {module.refcount} {','.join(module.used_by)}".rstrip()
        )
    return 0
