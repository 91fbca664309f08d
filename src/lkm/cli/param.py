"""Read or write the parameters of a loaded module, in /sys/module/NAME/parameters.

Without PARAM all of them are shown; with VALUE it is written, and what the kernel then has is shown.
"""

from __future__ import annotations

import argparse

from lkm.cli.common import add_host, add_json, add_machine, machine_of
from lkm.cli.render import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm param` takes."""
    parser.add_argument("module", metavar="MODULE", help="a loaded module's name")
    parser.add_argument(
        "param", metavar="PARAM", nargs="?", help="a parameter's name (default: all)"
    )
    parser.add_argument("value", metavar="VALUE", nargs="?", help="write this")
    add_machine(parser)
    add_host(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm param`."""
    from lkm.verbs import read_parameters, write_parameter

    name = arguments.module.replace("-", "_")
    with machine_of(arguments) as machine:
        if arguments.value is not None:
            if arguments.host:
                from lkm.host import require_privilege

                require_privilege("param")
            write_parameter(machine, name, arguments.param, arguments.value)
        files = read_parameters(machine, name, arguments.param)
    if arguments.json:
        rows = {p: {"value": f.value, "mode": f"{f.mode:04o}"} for p, f in files.items()}
        print_json({"schema": 1, "module": name, "params": rows})
    elif arguments.param:
        print(next(iter(files.values())).value)
    else:
        for parameter, file in files.items():
            print(f"{parameter} = {'(not readable)' if file.value is None else file.value}")
    return 0
