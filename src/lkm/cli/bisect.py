"""Find the first kernel on which a source stops building, loading or passing its tests.

SOURCE is as for `lkm matrix`. Results that a matrix has kept are used first, then the kernels between
are halved. --good may be newer than --bad: then it is the first kernel on which the source still fails.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, completes_kernels
from lkm.cli.matrix import add_kernels, add_where, runner_for
from lkm.cli.render import Style, print_json, visible, working
from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.matrix.bisect import Border
    from lkm.matrix.cell import Cell
    from lkm.matrix.outcome import CellResult
    from lkm.matrix.results import Kept
    from lkm.progress import Progress

_LINES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm bisect` takes."""
    parser.add_argument(
        "source", metavar="SOURCE", help="a directory, a .c file, a .ko or a *-dkms package"
    )
    good = "a kernel on which it works (default: the oldest)"
    completes_kernels(parser.add_argument("--good", metavar="K", help=good))
    bad = "one on which it does not (default: the newest)"
    completes_kernels(parser.add_argument("--bad", metavar="K", help=bad))
    parser.add_argument(
        "--step",
        choices=("build", "load", "test"),
        default="load",
        help="what has to work: the build, loading and unloading too, the tests too (default: %(default)s)",
    )
    add_kernels(parser)
    add_where(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm bisect`."""
    from lkm.matrix.bisect import Step, bisect
    from lkm.matrix.plan import Plan, sources_of
    from lkm.matrix.results import Kept

    step, kept = Step(arguments.step), Kept()
    tests = step is Step.TEST
    with working(quiet=arguments.json) as progress:
        kernels = _between(arguments)
        found = sources_of([arguments.source], tests=tests, progress=progress)
        cells = {cell.kernel: cell for cell in Plan(found, kernels, tests=tests).cells()}
        run = _remote(arguments) if arguments.dask else functools.partial(_here, progress, kept)
        border = bisect(
            kernels,
            step,
            lambda kernel: None if arguments.again else kept.find(cells[kernel]),
            lambda kernel: run(cells[kernel]),
        )
    if arguments.json:
        print_json(border.to_dict())
    else:
        print("\n".join(_told(border, Style(sys.stdout))))
    return 0


def _here(progress: Progress, kept: Kept, cell: Cell) -> CellResult:
    """Run a cell in this process and keep its result."""
    from lkm.errors import LkmError
    from lkm.kernels import store
    from lkm.matrix.cell import run_cell

    progress.step(f"trying {cell.kernel}")
    with contextlib.suppress(LkmError):  # the cell says it
        store.get(cell.kernel, progress=progress)
    result = run_cell(cell)
    kept.keep(cell, result)
    return result


def _remote(arguments: argparse.Namespace) -> Callable[[Cell], CellResult]:
    """Run a cell where `--dask` says; its result is kept here."""
    runner = runner_for(arguments)

    def run(cell: Cell) -> CellResult:
        known = len(runner.troubles)
        runner.begin([cell])
        ((_, result),) = runner.ended()
        for trouble in runner.troubles[known:]:
            print(f"lkm: {trouble}", file=sys.stderr)
        return result

    return run


def _between(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The kernels from the good end to the bad one."""
    from lkm.matrix.plan import kernels_of

    ends = [name for name in (arguments.good, arguments.bad) if name]
    text = ",".join([*([arguments.kernels] if arguments.kernels else []), *ends])
    kernels = kernels_of(text if arguments.kernels else None)
    named = {name: kernels_of(name)[-1] for name in ends}
    order = list(kernels_of(",".join(dict.fromkeys([*kernels, *named.values()]))))
    good = order.index(named[arguments.good]) if arguments.good else 0
    bad = order.index(named[arguments.bad]) if arguments.bad else len(order) - 1
    if good == bad:
        raise UsageError(
            f"--good and --bad are both {order[good]}",
            hint="lkm bisect SOURCE --good 5.10 --bad 7.3",
        )
    return tuple(order[good : bad + 1] if good < bad else order[bad : good + 1][::-1])


def _told(border: Border, style: Style) -> Iterator[str]:
    yield f"last good: {style.green(border.good.kernel)}"
    yield from _sides(border.good)
    yield f"first bad: {style.red(border.bad.kernel)}: {border.bad.state}: {visible(border.bad.reason or '')}"
    yield from _sides(border.bad)
    for result in border.unjudged:
        yield f"not judged, in between: {result.kernel}: {result.state}: {visible(result.reason or '')}"
    for result in border.odd:
        yield style.yellow(f"not one border: {result.kernel} is {result.state} all the same")
    yield style.dim(f"{border.ran} of {len(border.kernels)} kernels tried now")


def _sides(result: CellResult) -> Iterator[str]:
    """What the compiler said, else the report of the kernel, else the end of the log."""
    said: Sequence[str] = [line for each in result.diagnostics[:2] for line in each["lines"]]
    for module in () if said else result.modules:
        log = [line for record in module["log"] for line in record["text"].split("\n")]
        problem = next(iter(module["problems"]), None)
        said = [*said, *(log[slice(*problem["records"])] if problem else log[-4:])]
    yield from (f"  {visible(line)}" for line in said[:_LINES])
