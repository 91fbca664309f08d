"""The page and the JUnit file of a matrix: all of it, and nothing of a stranger's text as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

from tests.unit.matrix_cells import KERNELS, reported, result

from lkm._version import VERSION
from lkm.matrix.html import page
from lkm.matrix.junit import junit
from lkm.matrix.outcome import CellResult
from lkm.matrix.report import Report

EVIL = "<script>alert(1)</script> & \"'\x1b[31m\x00 ]]> </pre></details>"


def evil_cell(kernel: str) -> CellResult:
    """A cell every text of which a stranger wrote."""
    excerpt = {"file": EVIL, "line": 2, "first": 1, "lines": ["int a;", EVIL]}
    frame: dict[str, Any] = {
        "function": EVIL,
        "module": EVIL,
        "address": None,
        "reliable": True,
        "places": [],
    }
    problem = {"kind": EVIL, "summary": EVIL, "function": EVIL, "source": excerpt, "trace": [frame]}
    module: dict[str, Any] = {
        "name": EVIL,
        "verdict": "problem",
        "reason": EVIL,
        "problems": [problem],
        "log": [{"time": 1.0, "text": EVIL}],
        "check": {"verdict": "unknown", "findings": [{"what": EVIL, "why": EVIL}]},
    }
    place = {"file": EVIL, "line": 2, "excerpt": excerpt}
    diagnostic = {**place, "severity": "error", "text": EVIL, "lines": [EVIL]}
    return result(
        kernel,
        "problem",
        EVIL,
        source=EVIL,
        hint=EVIL,
        modules=(module,),
        diagnostics=(diagnostic,),
        tests={
            "tests": 1,
            "failed": 1,
            "skipped": 0,
            "failures": [{"test": EVIL, "message": EVIL, "text": EVIL}],
        },
        error={
            "type": "HostError",
            "summary": EVIL,
            "evidence": [EVIL],
            "hint": None,
            "exit_code": 3,
        },
        worker=EVIL,
    )


def matrix() -> Report:
    return reported(
        result(KERNELS[0]),
        result(KERNELS[1], "build-failed", "error: no"),
        result(
            KERNELS[2], "error", "disk", error={"summary": "disk", "evidence": [], "exit_code": 3}
        ),
        result(KERNELS[3], "excluded", "BUILD_EXCLUSIVE_KERNEL"),
        result(KERNELS[0], "hung", "it hung", source="other"),
    )


class Tags(HTMLParser):
    """The tags and attributes of a page, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_a_strangers_text_is_text() -> None:
    found = Tags(page(reported(evil_cell(KERNELS[0]))))
    assert found.tags.count("script") == 1
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    text = page(reported(evil_cell(KERNELS[0])))
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 15
    assert "\x1b" not in text
    assert "\x00" not in text


def test_the_page_needs_no_network_and_allows_no_other_script() -> None:
    text = page(matrix())
    assert not re.findall(r"src=|href=\"(?!#)|url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_each_cell_of_the_map_leads_to_its_story_and_back() -> None:
    found = Tags(page(matrix()))
    links = {value for name, value in found.attributes if name == "href"}
    assert links == {f"#{each}" for each in found.ids}
    assert {f"#{kind}0-{column}" for kind in "cm" for column in range(4)} <= links
    assert len(found.ids) == len(set(found.ids)) == 2 * 5 + 2


def test_a_reason_leads_to_the_first_cell_that_has_it() -> None:
    cells = [result(kernel, "hung", "it hung", source="demo") for kernel in KERNELS[1:]]
    text = page(reported(result(KERNELS[0]), *cells))
    assert "it hung: <b>6.1 and newer</b></p>" in text
    assert '<a href="#c0-1">demo</a>' in text


def test_of_cells_that_fail_alike_one_is_open() -> None:
    cells = [result(k, "hung", "it hung", source=s) for s in ("a", "b") for k in KERNELS[:2]]
    text = page(reported(*cells, result(KERNELS[2], "error", "disk"), result(KERNELS[3])))
    assert re.findall(r'<details id="(\S+)" class="\S+ \S+" open>', text) == ["c0-0"]


def test_a_cell_that_did_not_run_is_no_state() -> None:
    text = page(reported(result(KERNELS[0]), result(KERNELS[1], source="other")))
    assert text.count('<td><span title="did not run">\N{MIDDLE DOT}</span></td>') == 2


def test_the_page_says_when_it_was_made_and_how_much_of_it_is_older() -> None:
    cells = result(KERNELS[0], kept=True), result(KERNELS[1])
    text = page(reported(*cells), datetime(2026, 11, 30, 17, 5, tzinfo=UTC))
    said = f"2026-11-30 17:05 UTC, lkm {VERSION}, 1.50 s, 1 of 2 cells kept from earlier runs"
    assert said in text


def test_the_map_can_be_read_without_colours() -> None:
    text = page(matrix())
    for word in ("ok", "build", "hung", "excluded", "error"):
        assert re.search(
            rf'<td class="\w+"><a [^>]*><span aria-hidden="true">.</span> <span>{word}</span></a>',
            text,
        )


def test_junit_has_a_suite_a_row_and_a_case_a_kernel() -> None:
    top = ET.fromstring(junit(matrix()))
    first, second = top.findall("testsuite")
    counts = {name: first.get(name) for name in ("name", "tests", "failures", "errors", "skipped")}
    assert counts == {"name": "demo", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    kinds = [[child.tag for child in case] for case in first.findall("testcase")]
    assert kinds == [[], ["failure"], ["error"], ["skipped"]]
    failure = second.find("testcase/failure")
    assert failure is not None
    assert failure.attrib == {"message": "it hung", "type": "hung"}


def test_junit_says_of_a_failure_all_that_there_is_in_its_text() -> None:
    place = {"function": "demo_init", "file": "demo.c", "line": 3, "column": 1}
    frame = {"function": "demo_init", "module": "demo", "reliable": True, "places": [place]}
    source = {"file": "demo.c", "line": 3, "first": 2, "lines": ["{", "\t*nowhere = 1;", "}"]}
    problem = {
        "kind": "oops", "summary": "BUG: NULL pointer", "function": "demo_init", "source": source,
        "trace": [frame],
    }  # fmt: skip
    module = {
        "name": "demo", "verdict": "problem", "reason": "BUG: NULL pointer", "problems": [problem],
        "log": [{"time": number / 10, "text": f"line {number}"} for number in range(100)],
    }  # fmt: skip
    cell = result(
        KERNELS[0], "problem", "BUG: NULL pointer", hint="lkm explain oops", modules=(module,)
    )
    failure = ET.fromstring(junit(reported(cell))).find("testsuite/testcase/failure")
    assert failure is not None
    lines = (failure.text or "").splitlines()
    assert lines[:2] == ["problem: BUG: NULL pointer", "hint: lkm explain oops"]
    assert "  >    3 |         *nowhere = 1;" in lines
    assert "  demo_init [demo]  demo.c:3" in lines
    assert lines[-1] == "[    9.900000] line 99"
    assert sum("] line " in line for line in lines) == 40


def test_junit_says_of_an_error_what_to_do() -> None:
    error = {
        "summary": "no space",
        "evidence": ["/cache is full"],
        "hint": "free some",
        "exit_code": 3,
    }
    cell = result(KERNELS[0], "error", "no space", hint="free some", error=error)
    found = ET.fromstring(junit(reported(cell))).find("testsuite/testcase/error")
    assert found is not None
    assert (found.text or "").splitlines() == [
        "error: no space",
        "hint: free some",
        "/cache is full",
    ]


def test_junit_survives_what_xml_cannot_say() -> None:
    top = ET.fromstring(junit(reported(evil_cell(KERNELS[0]))))
    failure = top.find("testsuite/testcase/failure")
    assert failure is not None
    assert "<script>alert(1)</script>" in (failure.text or "")
    assert not re.search("[\x00\x1b]", "".join(top.itertext()))
