"""Try sources on many kernels: build, check, load, log and unload, each in a fresh machine.

SOURCE is a directory, a .c file, a .ko, or the name of a *-dkms package of Debian. Each cell's result is kept:
an interrupted matrix goes on where it was, and what has not changed does not run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, completes_kernels
from lkm.cli.render import Style, print_json, working
from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.matrix.cell import Cell
    from lkm.matrix.outcome import CellResult
    from lkm.matrix.plan import Plan
    from lkm.matrix.report import Report
    from lkm.matrix.runner import Runner

_TIMEOUT = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm matrix` takes."""
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a directory, a .c file, a .ko or a *-dkms package",
    )
    add_kernels(parser)
    parser.add_argument(
        "--params",
        metavar="WORDS",
        action="append",
        default=[],
        help='module parameters, "a=1 b=2"; each --params is a row of its own',
    )
    parser.add_argument(
        "--tests", action="store_true", help="run the source's own pytest suite on each kernel, too"
    )
    add_timeout(parser)
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="cells at once (default: as many as cores)"
    )
    add_where(parser)
    add_json(parser)
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write a JUnit file, too")
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write one page for a browser, too"
    )


def add_kernels(
    parser: argparse.ArgumentParser, *, default: str = "the newest of each series"
) -> None:
    """`--kernels LIST`."""
    completes_kernels(
        parser.add_argument(
            "--kernels",
            metavar="LIST",
            help=f"6.1..7.2, oldest,newest, a glob, several with commas (default: {default})",
        )
    )


def add_where(parser: argparse.ArgumentParser) -> None:
    """Where cells run, and whether results that are there count."""
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run the cells on the workers of this Dask scheduler"
    )
    parser.add_argument(
        "--again", action="store_true", help="run every cell, also those whose result is kept"
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """`--timeout S`."""
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        default=_TIMEOUT,
        help="seconds that each load and each unload may take (default: %(default)g)",
    )


def check_timeout(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a `--timeout` that is none."""
    if not 0 < arguments.timeout < float("inf"):
        raise UsageError(f"--timeout {arguments.timeout:g}", hint="give seconds, more than 0")


def is_quiet(arguments: argparse.Namespace) -> bool:
    """Whether nothing is said of how far it is: with `--json`, where nobody sits before a terminal."""
    return bool(arguments.json) and not sys.stderr.isatty()


def main(arguments: argparse.Namespace) -> int:
    """`lkm matrix`."""
    from lkm.matrix.outcome import exit_code
    from lkm.matrix.plan import kernels_of, plan

    check_timeout(arguments)
    _check_writable(arguments)
    runner = runner_for(arguments)
    quiet = is_quiet(arguments)
    with working(quiet=quiet) as progress:
        kernels = kernels_of(arguments.kernels, progress=progress)
        planned = plan(
            arguments.sources,
            kernels,
            params=arguments.params,
            tests=arguments.tests,
            timeout=arguments.timeout,
            progress=progress,
        )
        waiting = runner.begin(planned.cells())
    fetch(waiting, runner, quiet=quiet)
    done = _run(planned, runner, quiet=quiet)
    _show(arguments, done, runner)
    return exit_code(done.results)


def runner_for(arguments: argparse.Namespace) -> Runner:
    """Runs cells where the arguments want them. Raises UsageError for a number of jobs that is none."""
    from lkm.matrix.executor import Local
    from lkm.matrix.runner import Runner

    if arguments.dask:
        from lkm.matrix.dask import Dask

        return Runner(Dask(arguments.dask), again=arguments.again)
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"-j {arguments.jobs}", hint="give a number of cells, 1 or more")
    return Runner(Local(arguments.jobs), again=arguments.again)


def fetch(waiting: Sequence[Cell], runner: Runner, *, quiet: bool) -> None:
    """Get what kernels the cells need and this disk has not, where they run here.

    One that cannot be had is left to its cells, which say so.
    """
    from lkm.cli.board import board
    from lkm.kernels import several

    if runner.remote:
        return
    with board(quiet=quiet) as rows:
        several.fetch([cell.kernel for cell in waiting], newest=False, board=rows)


def _run(planned: Plan, runner: Runner, *, quiet: bool) -> Report:
    from lkm.cli.grid import watching
    from lkm.matrix.report import report

    started = time.monotonic()
    results: list[CellResult] = []
    try:
        with watching(planned, quiet=quiet) as seen:
            for _, result in runner.ended():
                results.append(result)
                seen(result)
    except KeyboardInterrupt:
        kept = sum(result.is_verdict for result in results)
        print(
            f"lkm: {kept} of {len(planned.cells())} cells are kept; without --again the same command goes on",
            file=sys.stderr,
        )
        raise
    return report(planned, results, time.monotonic() - started)


def _show(arguments: argparse.Namespace, done: Report, runner: Runner) -> None:
    from lkm.cli.grid import told

    if arguments.json:
        print_json(done.to_dict())
    else:
        print("\n".join(told(done, Style(sys.stdout))))
    _write(arguments, done)
    for trouble in runner.troubles:
        print(f"lkm: {trouble}", file=sys.stderr)


def _check_writable(arguments: argparse.Namespace) -> None:
    """Refuse before the cells have run for nothing."""
    for path in (arguments.junit, arguments.html):
        if path and not path.absolute().parent.is_dir():
            raise UsageError(
                f"no directory {path.absolute().parent}", hint=f"mkdir -p {path.absolute().parent}"
            )


def _write(arguments: argparse.Namespace, done: Report) -> None:
    if arguments.junit:
        from lkm.matrix.junit import junit

        arguments.junit.write_bytes(junit(done))
    if arguments.html:
        from lkm.matrix.html import page

        arguments.html.write_text(page(done), "utf-8")
