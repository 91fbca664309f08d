"""The table of a matrix on a terminal: alive while it runs, and what is left when it ended."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.matrix_cells import KERNELS, reported, result

from lkm.cli import main
from lkm.cli.grid import told, watching
from lkm.cli.render import Style
from lkm.kernels import several
from lkm.matrix import plan
from lkm.matrix.outcome import CellResult
from lkm.matrix.report import duration
from lkm.matrix.runner import Runner


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_fills_up_while_cells_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    done = reported(result(KERNELS[0]), result(KERNELS[1], "build-failed", "no"))
    with watching(done.plan, quiet=False) as seen:
        for each in done.results:
            seen(each)
    drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue())
    assert "0 of 2 cells" in drawn
    assert "2 of 2 cells, 1 failing" in drawn
    assert re.search(r"demo +ok +BUILD", drawn)


def test_elsewhere_each_cell_that_ran_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    done = reported(result(KERNELS[0]), result(KERNELS[1], "hung", "it hung\x1b[2J", kept=True))
    with watching(done.plan, quiet=False) as seen:
        for each in done.results:
            seen(each)
    assert capsys.readouterr().err == f"lkm: demo on {KERNELS[0]}: ok\n"


@pytest.mark.parametrize(("width", "first"), [(80, "5.10  6.1"), (14, "demo"), (5, "demo: hung")])
def test_the_table_lies_as_the_terminal_is_wide(
    monkeypatch: pytest.MonkeyPatch, width: int, first: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = reported(result(KERNELS[0]), result(KERNELS[1], "hung", "it hung\x1b[2J"))
    lines = list(told(done, Style(io.StringIO())))
    assert first in next(filter(None, map(str.strip, lines)))
    assert "demo: hung: it hung\\x1b[2J: 6.1, the newest" in lines
    assert lines[-1].startswith("2 cells: 1 ok, 1 hung")


def test_what_can_be_done_for_a_cell_without_verdict_is_said_once() -> None:
    cells = [result(each, "error", "no sandbox", hint="sudo sysctl") for each in KERNELS[:2]]
    fails = result(KERNELS[2], "problem", "BUG", hint="lkm explain oops")
    lines = list(told(reported(*cells, fails), Style(io.StringIO())))
    assert lines[-2] == "hint: sudo sysctl"
    assert len([line for line in lines if line.startswith("hint:")]) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0934, "93 ms"),
        (9.306, "9.31 s"),
        (147.4, "2 min 27 s"),
        (3599.7, "1 h 0 min"),
        (11100, "3 h 5 min"),
    ],
)
def test_long_times_are_in_minutes_and_hours(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_who_interrupts_is_told_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := demo.o\n")
    (tmp_path / "demo.c").write_text("")
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(plan, "kernels_of", lambda *_, **__: KERNELS)
    monkeypatch.setattr(several, "fetch", lambda *_, **__: [])

    def ended(_: Runner) -> Iterator[tuple[None, CellResult]]:
        yield None, result(KERNELS[0])
        yield None, result(KERNELS[1], "error", "disk")
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "ended", ended)
    assert main(["matrix", str(tmp_path)]) == 130
    *_, kept, last = capsys.readouterr().err.splitlines()
    assert kept == "lkm: 1 of 4 cells are kept; without --again the same command goes on"
    assert last == "interrupted"
