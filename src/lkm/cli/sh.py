"""A shell (busybox) in a machine that is up, or one command with its output and exit code.

lkm sh                 a shell
lkm sh -- cat /proc/modules
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from lkm.cli.common import add_machine, attached
from lkm.vm.machine import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm sh` takes."""
    add_machine(parser)
    parser.add_argument(
        "command", metavar="CMD", nargs="*", help="a command and its arguments (after --)"
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm sh`."""
    from lkm.vm.relay import relay

    argv = arguments.command or ["/bin/sh", "-l"]
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with attached(arguments, with_monitor=False) as machine:
        if on_terminal:
            return _on_terminal(machine, argv)
        return relay(machine, argv, stdin=0, stdout=1, stderr=2)


def _on_terminal(machine: Machine, argv: list[str]) -> int:
    from lkm.vm.relay import relay

    with _raw(0), _size_changes() as wake:
        return relay(
            machine,
            argv,
            stdin=0,
            stdout=1,
            stderr=2,
            terminal=_size,
            env={"TERM": os.environ.get("TERM", "linux")},
            wake=wake,
        )


def _size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(1)
    return rows, columns


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _size_changes() -> Iterator[int]:
    """A descriptor from which something can be read whenever the terminal's size has changed."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGWINCH, lambda *_: os.write(writer, b"w"))
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)
