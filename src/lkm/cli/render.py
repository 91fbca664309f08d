"""What every verb's output has in common: colour on a terminal only, sizes, progress, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    import rich.progress

    from lkm.log import Record

__all__ = [
    "Style",
    "in_seconds",
    "print_json",
    "record_line",
    "size",
    "table",
    "visible",
    "working",
]


class Style:
    """Colours for one stream: none where it is not a terminal, or NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self.on = (
            stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        )

    def red(self, text: str) -> str:
        """What went wrong."""
        return self._sgr("31;1", text)

    def green(self, text: str) -> str:
        """What is well."""
        return self._sgr("32;1", text)

    def yellow(self, text: str) -> str:
        """What wants a look."""
        return self._sgr("33", text)

    def bold(self, text: str) -> str:
        """A heading."""
        return self._sgr("1", text)

    def dim(self, text: str) -> str:
        """What may be passed over."""
        return self._sgr("2", text)

    def _sgr(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.on else text


def record_line(record: Record, style: Style) -> str:
    """A record as dmesg prints it, with control characters made visible."""
    from lkm.log import format_dmesg

    line = visible(format_dmesg(record))
    if record.level in ("emerg", "alert", "crit", "err"):
        return style.red(line)
    return style.yellow(line) if record.level == "warning" else line


def visible(text: str) -> str:
    """`text` with control characters spelled out, so that a module cannot drive the terminal."""
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char in "\n\t" or char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else "\N{REPLACEMENT CHARACTER}"


def print_json(document: Any) -> None:
    """One document on stdout."""
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def in_seconds(seconds: float | None) -> str:
    """`1.84 s`, `93 ms`, or `-`."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def size(amount: float) -> str:
    """Bytes for people: `26.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...], style: Style) -> list[str]:
    """Left-aligned columns under a header."""
    lines = [header, *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(header))]
    texts = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in lines
    ]
    return [style.bold(texts[0]), *texts[1:]]


@contextlib.contextmanager
def working(*, quiet: bool = False) -> Iterator[Progress]:
    """Progress on stderr, gone at the end: a live line on a terminal, one plain line a stage elsewhere."""
    if quiet:
        yield SILENT
    elif not sys.stderr.isatty():
        yield _Plain()
    else:
        live = _Live()
        try:
            yield live
        finally:
            live.stop()


class _Plain:
    """A line a stage, for logs."""

    def step(self, text: str) -> None:
        print(f"lkm: {text}", file=sys.stderr, flush=True)

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        pass


def bars(width: int) -> rich.progress.Progress:
    """Rows of a terminal that go when stopped: what is done, a bar, the field `what` of its task, the time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=width),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Live:
    """The current stage on the last line of the terminal, with how far it is and for how long."""

    def __init__(self) -> None:
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def step(self, text: str) -> None:
        bar = self._started()
        if self._task is not None:
            bar.remove_task(self._task)
        self._task = bar.add_task(text, total=None, what="")

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        if self._task is None:
            return
        what = ""
        if unit == "B":
            what = f"{size(done)} of {size(total)}" if total else size(done)
        elif total:
            what = f"{done:g} of {total:g} {unit}".strip()
        self._started().update(self._task, completed=done, total=total, what=what)

    def _started(self) -> rich.progress.Progress:
        if self._bar is None:
            self._bar = bars(24)
            self._bar.start()
        return self._bar

    def stop(self) -> None:
        """Take the line away: what comes next is the result."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
