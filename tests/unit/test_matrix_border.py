"""What `lkm bisect` prints: both sides of the border, each with the lines that its verdict rests on."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.matrix_cells import KERNELS, result, source

from lkm.cli import bisect, main, parse
from lkm.cli.bisect import between, told
from lkm.cli.render import Style
from lkm.errors import HostError, UsageError
from lkm.kernels import catalog
from lkm.kernels.catalog import Offer
from lkm.matrix.bisect import Border, Step
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult
from lkm.progress import SILENT

OLD, SIX, TWELVE, NEW = KERNELS
OLDER = "6.12.100+deb13-cloud-amd64"
TAINT = "demo: loading out-of-tree module taints kernel."
SOURCE = {"file": "demo.c", "line": 2, "first": 1, "lines": ["int a;", "*nowhere = a;"]}
OOPS = {"kind": "oops", "summary": "NULL pointer", "function": "f", "source": SOURCE, "trace": []}


def module(*log: str, problems: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    records = [{"time": 1.0, "text": text} for text in (TAINT, *log)]
    return {"name": "demo", "verdict": "ok", "log": records, "problems": list(problems)}


def diagnostic(severity: str, *lines: str, file: str | None = "demo.c") -> dict[str, Any]:
    return {"severity": severity, "file": file, "line": 1, "text": lines[0], "lines": list(lines)}


MODPOST = diagnostic("warning", "WARNING: modpost: missing MODULE_DESCRIPTION()", file=None)


def lines(good: CellResult, bad: CellResult, *, backwards: bool = False, **more: Any) -> list[str]:
    border = Border(Step.LOAD, KERNELS, good, bad, **more)
    return list(told(border, Style(io.StringIO()), backwards=backwards))


def test_a_load_that_failed_has_the_kernels_lines_whatever_modpost_said() -> None:
    good = result(SIX, modules=(module("demo: probing"),), diagnostics=(MODPOST,))
    bad = result(
        TWELVE, "load-failed", "insmod: ENODEV: demo's init returned it",
        modules=(module("demo: no such thing", "demo: bye"),), diagnostics=(MODPOST,),
    )  # fmt: skip
    assert lines(good, bad, ran=4) == [
        f"last good: {SIX}",
        "  demo: probing",
        f"first bad: {TWELVE}: load-failed: insmod: ENODEV: demo's init returned it",
        "  demo: no such thing",
        "  demo: bye",
        "4 of 4 kernels tried now",
    ]


def test_a_failed_build_has_the_errors_and_what_the_compiler_said_of_that_file_before() -> None:
    error = diagnostic("error", "demo.c:1:1: error: too many arguments", "    1 | f(a);")
    bad = result(TWELVE, "build-failed", "error: too many arguments", diagnostics=(error,))
    silent = result(SIX, modules=(module("demo: init"),), diagnostics=(MODPOST,))
    assert lines(silent, bad)[1] == "  no complaint of the compiler's"
    warned = result(
        SIX, diagnostics=(MODPOST, diagnostic("warning", "demo.c:1:1: warning: old: f"))
    )
    assert lines(warned, bad)[1] == "  demo.c:1:1: warning: old: f"
    assert "      1 | f(a);" in lines(warned, bad)


def test_a_failed_test_has_what_did_not_hold_and_where() -> None:
    said = [
        ">       assert vm.x",
        "E       AssertionError: no x",
        "",
        "test_demo.py:8: AssertionError",
    ]
    text = "\n".join(["vm = <VM>", "", "    def test_it(vm):", *said])
    failure = {"test": "test_it", "message": "AssertionError: no x", "text": text}
    counts = {"tests": 2, "failed": 1, "skipped": 0, "failures": [failure]}
    bad = result(TWELVE, "tests-failed", "1 of 2 tests: test_it: no x", tests=counts)
    good = result(SIX, tests={**counts, "failed": 0, "failures": []}, modules=(module("demo: x"),))
    assert lines(good, bad)[1:3] == ["  demo: x", "  2 tests, 0 failed"]
    assert lines(good, bad)[4:7] == [
        "  test_demo.py:8: AssertionError",
        "  >       assert vm.x",
        "  E       AssertionError: no x",
    ]


def test_a_problem_has_its_line_of_the_source() -> None:
    bad = result(NEW, "problem", "oops", modules=(module("a\nb", problems=(OOPS,)),))
    assert lines(result(TWELVE), bad)[2:5] == [
        "  oops: NULL pointer in f() at demo.c:2",
        "       1 | int a;",
        "  >    2 | *nowhere = a;",
    ]


def test_from_newer_to_older_the_words_are_in_the_kernels_order() -> None:
    said = lines(result(TWELVE), result(SIX, "load-failed", "no"), backwards=True)
    assert said[:2] == [f"last bad: {SIX}: load-failed: no", f"first good: {TWELVE}"]


def test_kernels_that_nobody_tried_are_owned_up_to() -> None:
    said = lines(result(OLD), result(NEW, "hung", "it hung"), untried=(SIX, TWELVE), ran=2)
    assert said[-1] == (
        "2 of 4 kernels tried now; 2 not at all: taken to be as on their side of the border"
    )


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive offers KERNELS, an older one of 6.12, and one of another flavour."""
    suites = {
        "bullseye": (OLD,),
        "bookworm": (SIX, "6.1.0-50-amd64"),
        "trixie": (OLDER, TWELVE),
        "trixie-backports": (NEW,),
    }

    def offers(suite: str, **_: object) -> tuple[Offer, ...]:
        return tuple(
            Offer(name, suite, catalog.flavour_of(name) or "", name, name, "")
            for name in suites.get(suite, ())
        )

    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(catalog, "offers", offers)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("words", "kernels", "backwards"),
    [
        ([], (OLD, SIX, OLDER, TWELVE, NEW), False),
        (["--good", "6.1"], (SIX, OLDER, TWELVE, NEW), False),
        (["--good", "6.12", "--bad", "5.10"], (TWELVE, OLDER, SIX, OLD), True),
        (["--kernels", "5.10..", "--bad", "6.12"], (OLD, SIX, TWELVE), False),
        (["--good", "6.1-generic", "--kernels", "6.12"], ("6.1.0-50-amd64", TWELVE), False),
    ],
)
def test_every_kernel_on_offer_lies_between_the_ends(
    words: list[str], kernels: tuple[str, ...], backwards: bool
) -> None:
    found = between(parse("bisect", ["demo", *words]), SILENT)
    assert (found.kernels, found.backwards) == (kernels, backwards)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--good", "7.3"],
            f"--good {NEW} is the newest of the kernels, so there is none for --bad",
        ),
        (["--bad", "5.10"], "is the oldest of the kernels, so there is none for --good"),
        (["--good", "6.1", "--bad", "6.1"], f"--good and --bad are both {SIX}"),
    ],
)
def test_one_kernel_for_both_ends_is_wrong_usage(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        between(parse("bisect", ["demo", *words]), SILENT)


class Cluster:
    """Runs cells elsewhere, and finds the same useless worker each time."""

    def __init__(self) -> None:
        self.troubles: list[HostError] = []

    def begin(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.troubles.append(HostError("worker n7/47 got no more cells", hint="install QEMU"))

    def ended(self) -> Iterator[tuple[Cell, CellResult]]:
        for cell in self.cells:
            yield cell, result(cell.kernel, "ok" if cell.kernel in (OLD, SIX) else "hung", "why")


@pytest.mark.usefixtures("offered")
def test_a_worker_that_is_no_use_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    monkeypatch.setattr(bisect, "runner_for", lambda _: cluster)
    assert main(["bisect", str(source(tmp_path).path), "--dask", "tcp://head:1"]) == 0
    said = capsys.readouterr()
    assert f"first bad: {OLDER}" in said.out
    assert len(cluster.troubles) > 1
    assert said.err.count("got no more cells") == 1
    assert f"trying {NEW} elsewhere" in said.err
