"""The log of a machine that is up, as dmesg(1) shows it."""

from __future__ import annotations

import argparse
import sys

from lkm.cli.common import add_host, add_json, add_machine, machine_of
from lkm.cli.render import Style, print_json, record_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm dmesg` takes."""
    add_machine(parser)
    add_host(parser)
    add_json(parser)
    parser.add_argument(
        "-w", "--follow", action="store_true", help="go on with what comes, until Ctrl-C"
    )
    parser.add_argument("-W", "--follow-new", action="store_true", help="only what comes")


def main(arguments: argparse.Namespace) -> int:
    """`lkm dmesg`."""
    style = Style(sys.stdout)
    following = arguments.follow or arguments.follow_new
    with machine_of(arguments, with_monitor=False) as machine:
        records = machine.log(whole=True)
        if arguments.json and not following:
            rows = [
                {"seq": r.seq, "time": r.time, "level": r.level, "text": r.text} for r in records
            ]
            print_json({"schema": 1, "records": rows})
            return 0
        if not arguments.follow_new:
            for record in records:
                print(record_line(record, style))
        if following:
            for record in machine.follow():
                print(record_line(record, style), flush=True)
    return 0
