"""The machines that are up: name, kernel, QEMU's process, for how long."""

from __future__ import annotations

import argparse
import sys
import time

from lkm.cli.common import add_json
from lkm.cli.render import Style, print_json, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm ps` takes."""
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm ps`."""
    from lkm.vm import named

    running = named.machines()
    if arguments.json:
        print_json({"schema": 1, "machines": [machine.to_dict() for machine in running]})
        return 0
    now = time.time()
    rows = [(m.name, m.release, str(m.pid), _age(now - m.started)) for m in running]
    for line in table(rows, ("NAME", "KERNEL", "PID", "UP"), Style(sys.stdout)):
        print(line)
    return 0


def _age(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
