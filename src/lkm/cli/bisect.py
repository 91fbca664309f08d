"""Find the first kernel on which a source stops building, loading or passing its tests.

SOURCE is as for `lkm matrix`. Results that a matrix has kept are used first, then the kernels between
are halved. --good may be newer than --bad: then it is the first kernel on which the source still fails.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lkm.cli.common import add_json, completes_kernels
from lkm.cli.matrix import (
    add_kernels,
    add_timeout,
    add_where,
    check_timeout,
    is_quiet,
    runner_for,
)
from lkm.cli.render import Style, print_json, visible, working
from lkm.errors import UsageError
from lkm.matrix.problem import numbered, where

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
    add_kernels(parser, default="every one on offer")
    parser.add_argument(
        "--params", metavar="WORDS", default="", help='module parameters, "a=1 b=2"'
    )
    add_timeout(parser)
    add_where(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm bisect`."""
    from lkm.matrix.bisect import Step, bisect
    from lkm.matrix.results import Kept

    check_timeout(arguments)
    step, kept = Step(arguments.step), Kept()
    with working(quiet=is_quiet(arguments)) as progress:
        asked = between(arguments, progress)
        wanted, *alike = _cells(arguments, asked.kernels, progress)

        def known(kernel: str) -> CellResult | None:
            if arguments.again:
                return None
            found = (kept.find(cells[kernel]) for cells in (wanted, *alike))
            return next(filter(None, found), None)

        here = functools.partial(_here, progress, kept)
        run = _remote(arguments, progress) if arguments.dask else here
        given = bool(arguments.good), bool(arguments.bad)
        border = bisect(asked.kernels, step, known, lambda kernel: run(wanted[kernel]), given=given)
    if arguments.json:
        print_json(border.to_dict())
    else:
        print("\n".join(told(border, Style(sys.stdout), backwards=asked.backwards)))
    return 0


def _cells(
    arguments: argparse.Namespace, kernels: Sequence[str], progress: Progress
) -> list[dict[str, Cell]]:
    """The cell of each kernel; then, where a matrix with tests answers the question too, that matrix's."""
    from lkm.matrix.plan import plan

    found = []
    for tests in (True,) if arguments.step == "test" else (False, True):
        planned = plan(
            [arguments.source],
            kernels,
            params=[arguments.params],
            tests=tests,
            timeout=arguments.timeout,
            progress=progress,
        )
        found.append({cell.kernel: cell for cell in planned.cells()})
    return found


def _here(progress: Progress, kept: Kept, cell: Cell) -> CellResult:
    """Run a cell in this process and keep its result."""
    from lkm.errors import LkmError
    from lkm.kernels import store
    from lkm.matrix.cell import run_cell

    with contextlib.suppress(LkmError):  # the cell says it
        store.get(cell.kernel, progress=progress)
    progress.step(f"trying {cell.kernel}")
    result = run_cell(cell)
    kept.keep(cell, result)
    return result


def _remote(arguments: argparse.Namespace, progress: Progress) -> Callable[[Cell], CellResult]:
    """Run a cell where `--dask` says; its result is kept here."""
    runner = runner_for(arguments)
    told: set[str] = set()

    def run(cell: Cell) -> CellResult:
        progress.step(f"trying {cell.kernel} elsewhere")
        runner.begin([cell])
        ((_, result),) = runner.ended()
        # A worker that is no use is found out again with each cell.
        for trouble in dict.fromkeys(map(str, runner.troubles)):
            if trouble not in told:
                print(f"lkm: {trouble}", file=sys.stderr)
        told.update(map(str, runner.troubles))
        return result

    return run


@dataclass(frozen=True)
class Between:
    """The kernels from the good end to the bad one; `backwards` where that is from newer to older."""

    kernels: tuple[str, ...]
    backwards: bool


def between(arguments: argparse.Namespace, progress: Progress) -> Between:
    """What `--kernels`, `--good` and `--bad` mean. Raises UsageError where the ends are one kernel."""
    from lkm.matrix.plan import kernels_of

    ends = [name for name in (arguments.good, arguments.bad) if name]
    named = {name: kernels_of(name, progress=progress)[-1] for name in ends}
    listed = arguments.kernels or _every(named.values())
    order = list(kernels_of(",".join([listed, *named.values()]), progress=progress))
    good = order.index(named[arguments.good]) if arguments.good else 0
    bad = order.index(named[arguments.bad]) if arguments.bad else len(order) - 1
    if good == bad and ends:
        raise _same(arguments, order[good])
    if good < bad:
        return Between(tuple(order[good : bad + 1]), backwards=False)
    return Between(tuple(order[bad : good + 1][::-1]), backwards=True)


def _every(ends: Iterable[str]) -> str:
    """All kernels of the flavour that the ends have."""
    from lkm.kernels.catalog import FLAVOURS, flavour_of

    found = {flavour_of(end) for end in ends}.intersection(FLAVOURS)
    return ",".join(f"all-{flavour}" for flavour in sorted(filter(None, found))) or "all"


def _same(arguments: argparse.Namespace, kernel: str) -> UsageError:
    if arguments.good and arguments.bad:
        return UsageError(
            f"--good and --bad are both {kernel}",
            hint="lkm bisect SOURCE --good 5.10 --bad 7.3",
        )
    given, other = ("--good", "--bad") if arguments.good else ("--bad", "--good")
    end = "newest" if arguments.good else "oldest"
    return UsageError(
        f"{given} {kernel} is the {end} of the kernels, so there is none for {other}",
        hint=f"give {other}, too; --good may be newer than --bad",
    )


def told(border: Border, style: Style, *, backwards: bool) -> Iterator[str]:
    """The two sides of the border, the older one first, and what is not known."""
    good, bad = border.good, border.bad
    of_good = [f"{'first' if backwards else 'last'} good: {style.green(good.kernel)}"]
    of_good += _lines(_of_good(border))
    reason = f"{style.red(bad.kernel)}: {bad.state}: {visible(bad.reason or '')}"
    of_bad = [f"{'last' if backwards else 'first'} bad: {reason}", *_lines(_evidence(bad))]
    yield from (*of_bad, *of_good) if backwards else (*of_good, *of_bad)
    for result in border.unjudged:
        yield f"not judged, in between: {result.kernel}: {result.state}: {visible(result.reason or '')}"
    for result in border.odd:
        yield style.yellow(f"not one border: {result.kernel} is {result.state} all the same")
    tried = f"{border.ran} of {len(border.kernels)} kernels tried now"
    if border.untried:
        tried += f"; {len(border.untried)} not at all: taken to be as on their side of the border"
    yield style.dim(tried)


def _lines(said: Iterable[str]) -> Iterator[str]:
    yield from (f"  {visible(line)}" for line in itertools.islice(said, _LINES))


def _of_good(border: Border) -> Iterator[str]:
    """What there is on the good side of the thing that fails on the other."""
    if border.bad.state == "build-failed":
        return _complaints(border)
    return _evidence(border.good)


def _complaints(border: Border) -> Iterator[str]:
    """What the compiler said there of the files that do not compile on the other side."""
    files = {each["file"] for each in border.bad.diagnostics if each["severity"] == "error"}
    said = [each for each in border.good.diagnostics if each["file"] in files]
    if not said:
        yield "no complaint of the compiler's"
    for each in said[:2]:
        yield from each["lines"]


def _evidence(result: CellResult) -> Iterator[str]:
    """What its state rests on: the compiler's errors, a failed test, the kernel's report, or the log."""
    if result.state == "build-failed":
        for each in result.diagnostics[:2]:
            yield from each["lines"]
    elif result.state == "tests-failed" and result.tests:
        yield from _failed_test(result.tests["failures"][0])
    else:
        for module in result.modules:
            yield from _log(module)
        if result.tests:
            yield f"{result.tests['tests']} tests, {result.tests['failed']} failed"


def _failed_test(failure: Mapping[str, str]) -> Iterator[str]:
    """The place and pytest's own lines on what did not hold."""
    *said, place = failure["text"].rstrip().split("\n")
    yield place
    yield from (line for line in said if line.startswith(("E ", ">")))


def _log(module: Mapping[str, Any]) -> Iterator[str]:
    for problem in module["problems"][:1]:
        yield from _problem(problem)
    if not module["problems"]:
        log = [line for record in module["log"] for line in record["text"].split("\n")]
        yield from [line for line in log if not _says_nothing(line)][-4:]


def _problem(problem: Mapping[str, Any]) -> Iterator[str]:
    """What it is, and the line of the source that it is about."""
    source = problem["source"]
    at = f" at {source['file']}:{source['line']}" if source else ""
    yield f"{problem['kind']}: {problem['summary']}{where(problem)}{at}"
    if source:
        yield from numbered(source)


def _says_nothing(line: str) -> bool:
    """Whether it is a line that every module from outside the kernel's tree gets (kernel/module/main.c)."""
    return (
        "loading out-of-tree module taints kernel" in line or "module verification failed" in line
    )
