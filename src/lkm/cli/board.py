"""Progress of several things at once, on stderr: a live row each on a terminal, some lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lkm.cli.render import bars, size
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Rows
    from rich.progress import TaskID

__all__ = ["Rate", "board"]

_PAUSE = 5.0
"""Seconds between two lines about the same download, where there is no terminal."""


class Rate:
    """How fast a download is, and how long it will take: `12.1 MB of 46.1 MB, 9.8 MB/s, 3 s left`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None

    def text(self, done: float, total: float | None) -> str:
        """What to show when `done` of `total` bytes are here."""
        now = self._clock()
        if self._first is None:
            self._first = now, done
        begun, before = self._first
        words = [f"{size(done)} of {size(total)}" if total else size(done)]
        # What was there at the start came from an earlier try.
        if now - begun > 0.2 and done > before:
            rate = (done - before) / (now - begun)
            words.append(f"{size(rate)}/s")
            if total and done < total:
                words.append(f"{(total - done) / rate:.0f} s left")
        return ", ".join(words)


@contextlib.contextmanager
def board(*, quiet: bool = False) -> Iterator[Callable[[str], Progress]]:
    """Gives a `Progress` for each name; all of it is gone at the end on a terminal."""
    if quiet:
        yield lambda _: SILENT
    elif not sys.stderr.isatty():
        yield _Lines
    else:
        with bars(16) as rows:
            yield lambda name: _Row(rows, name)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name = name
        self._rate = Rate()
        self._said = time.monotonic()

    def step(self, text: str) -> None:
        self._rate = Rate()
        # Stages name their kernel, but for the questions to apt.
        self._say(text if self._name in text else f"{self._name}: {text}")

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        text = self._rate.text(done, total) if unit == "B" else ""
        if text and time.monotonic() - self._said > _PAUSE:
            self._say(f"{self._name}: {text}")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"lkm: {text}", file=sys.stderr, flush=True)


class _Row:
    def __init__(self, rows: Rows, name: str) -> None:
        self._rows = rows
        self._name = name
        self._rate = Rate()
        self._task: TaskID | None = None

    def step(self, text: str) -> None:
        self._rate = Rate()
        if self._task is None:
            self._task = self._rows.add_task(text, total=None, what="")
        self._rows.reset(self._task, total=None, description=text, what="")

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        if self._task is None:
            return
        what = self._rate.text(done, total) if unit == "B" else ""
        self._rows.update(self._task, completed=done, total=total, what=what)
