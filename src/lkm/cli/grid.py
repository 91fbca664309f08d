"""A matrix on a terminal: the table of its cells, live while it runs, and the reasons below it."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from lkm.cli.render import Style, table, visible
from lkm.matrix.group import row_of, short_names, tidy
from lkm.matrix.outcome import CellResult, State, is_red
from lkm.matrix.report import duration

if TYPE_CHECKING:
    from rich.text import Text

    from lkm.matrix.plan import Plan
    from lkm.matrix.report import Report

__all__ = ["told", "watching", "word"]

_WORDS = {
    "build-failed": "BUILD", "load-failed": "LOAD", "unload-failed": "UNLOAD", "tests-failed": "TESTS",
    "problem": "PROBLEM", "hung": "HUNG", "panic": "PANIC", "excluded": "-", State.ERROR.value: "error",
    State.BAD_INPUT.value: "input",
}  # fmt: skip
_REASONS = 30
_LONGEST = 150
Cells = Mapping[tuple[str, str], CellResult]


def word(state: str | None) -> str:
    """A state in a cell of the table: capitals where the source fails, a dot for one to come."""
    return "." if state is None else _WORDS.get(state, state.upper() if is_red(state) else state)


def told(done: Report, style: Style) -> Iterator[str]:
    """The table, the reasons, and the counts."""
    width = shutil.get_terminal_size((100, 24)).columns
    yield from _grid(done.rows, done.plan.kernels, done.by_place, style, width)
    if done.groups:
        yield ""
    for group in done.groups[:_REASONS]:
        rows = ", ".join(group.rows[:4]) + (
            f" and {len(group.rows) - 4} more" if len(group.rows) > 4 else ""
        )
        reason = visible(group.reason)[:_LONGEST]
        yield f"{visible(rows)}: {_coloured(group.state, group.state, style)}: {reason}: {group.where}"
    if len(done.groups) > _REASONS:
        yield f"and {len(done.groups) - _REASONS} more reasons; --json has them all"
    # Of a cell without a verdict: what a person can do is not about the source.
    hints = dict.fromkeys(each.hint for each in done.results if each.hint and not each.is_verdict)
    yield from (f"hint: {visible(hint)}" for hint in hints)
    yield style.dim(_counts(done))


def _counts(done: Report) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in done.counts.items())
    kept = sum(result.kept for result in done.results)
    unchanged = f"; {kept} unchanged" if kept else ""
    total = len(done.results)
    return f"{total} cell{'s' * (total != 1)}: {counts}{unchanged}; {duration(done.seconds)}"


def _grid(
    rows: Sequence[str], kernels: Sequence[str], cells: Cells, style: Style, width: int
) -> list[str]:
    """Kernels across where that fits, else kernels down, else neither: then only the reasons are left."""
    names = short_names(kernels)
    across = [
        (visible(row), *(word(_state(cells, row, kernel)) for kernel in kernels)) for row in rows
    ]
    down = [
        (names[kernel], *(word(_state(cells, row, kernel)) for row in rows)) for kernel in kernels
    ]
    heads = ("", *names.values()), ("", *map(visible, rows))
    for lines, head in zip((across, down), heads, strict=True):
        drawn = table(lines, head, Style(io.StringIO()))
        if max(map(len, drawn)) <= width:
            return [drawn[0], *(_painted(line, style) for line in drawn[1:])]
    return []


def _state(cells: Cells, row: str, kernel: str) -> str | None:
    found = cells.get((row, kernel))
    return found.state if found else None


def _painted(line: str, style: Style) -> str:
    name, gap, rest = line.partition("  ")
    if not style.on:
        return line
    return name + gap + " ".join(_by_word(part, style) for part in rest.split(" "))


def _by_word(part: str, style: Style) -> str:
    if part == "ok":
        return style.green(part)
    if part in ("error", "input"):
        return style.yellow(part)
    return style.red(part) if part.isupper() else part


def _coloured(text: str, state: str, style: Style) -> str:
    if is_red(state):
        return style.red(text)
    return style.yellow(text) if state in (State.ERROR, State.BAD_INPUT) else text


Seen = Callable[[CellResult], None]


@contextlib.contextmanager
def watching(planned: Plan, *, quiet: bool) -> Iterator[Seen]:
    """Called with each result as it comes: a table that grows on a terminal, a line a cell elsewhere."""
    if quiet:
        yield lambda result: None
    elif not sys.stderr.isatty():
        yield _say
    else:
        with _Live(planned) as live:
            yield live.seen


def _say(result: CellResult) -> None:
    if not result.kept:
        reason = f": {visible(tidy(result.reason))[:_LONGEST]}" if result.reason else ""
        print(
            f"lkm: {visible(row_of(result))} on {result.kernel}: {result.state}{reason}",
            file=sys.stderr,
            flush=True,
        )


class _Live:
    """The table on the terminal's last lines, with how far it is and for how long."""

    def __init__(self, planned: Plan) -> None:
        from rich.console import Console
        from rich.live import Live

        self._plan = planned
        self._cells: dict[tuple[str, str], CellResult] = {}
        self._total = len(planned.cells())
        self._rows = tuple(dict.fromkeys(cell.row for cell in planned.cells()))
        self._started = time.monotonic()
        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console, transient=True, get_renderable=self._drawn, refresh_per_second=2
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def seen(self, result: CellResult) -> None:
        """One more cell has ended."""
        self._cells[row_of(result), result.kernel] = result

    def _drawn(self) -> Text:
        from rich.text import Text

        size = self._console.size
        style = Style(sys.stderr)
        lines = _grid(self._rows, self._plan.kernels, self._cells, style, size.width)
        red = sum(is_red(result.state) for result in self._cells.values())
        failing = f", {red} failing" if red else ""
        seconds = int(time.monotonic() - self._started)
        spent = f"{seconds} s" if seconds < 60 else duration(seconds)
        last = f"{len(self._cells)} of {self._total} cells{failing}, {spent}"
        room = max(1, size.height - 2)
        return Text.from_ansi("\n".join([*lines[:room], last]))
