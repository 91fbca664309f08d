"""A matrix as a JUnit file: a suite for each row, a test case for each kernel.

The elements are those of Jenkins' junit-10.xsd (jenkinsci/xunit-plugin). GitLab shows of a case that failed the
element's text alone, not its message and not system-out, so that text has to say all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from lkm.matrix.group import row_of, tidy
from lkm.matrix.outcome import CellResult, is_red
from lkm.matrix.problem import frame, numbered, where
from lkm.matrix.report import Report

__all__ = ["junit"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to say, not even escaped (section 2.2)."""
_MOST = 500
"""Lines of a cell's output."""
_TAIL = 40
"""Lines of it that are beside the reason, too."""


def junit(done: Report) -> bytes:
    """The file's content. A red cell is a failure, one without a verdict an error, an excluded one skipped."""
    top = ET.Element("testsuites", name="lkm matrix")
    for row in done.rows:
        cells = [result for result in done.results if row_of(result) == row]
        suite = ET.SubElement(top, "testsuite", _counts(row, cells))
        for cell in cells:
            suite.append(_case(row, cell))
    ET.indent(top)
    return bytes(ET.tostring(top, encoding="utf-8", xml_declaration=True))


def _counts(row: str, cells: list[CellResult]) -> dict[str, str]:
    seconds = sum(cell.seconds for cell in cells if not cell.kept)
    return {
        "name": _clean(row),
        "tests": str(len(cells)),
        "failures": str(sum(is_red(cell.state) for cell in cells)),
        "errors": str(sum(not cell.is_verdict for cell in cells)),
        "skipped": str(sum(cell.state == "excluded" for cell in cells)),
        "time": f"{seconds:.3f}",
    }


def _case(row: str, cell: CellResult) -> ET.Element:
    seconds = 0.0 if cell.kept else cell.seconds
    case = ET.Element("testcase", classname=_clean(row), name=cell.kernel, time=f"{seconds:.3f}")
    said = {"message": _clean(tidy(cell.reason or "")), "type": cell.state}
    text = _clean("\n".join(_evidence(cell)))
    if cell.state == "excluded":
        ET.SubElement(case, "skipped", message=said["message"])
    elif not cell.is_verdict:
        ET.SubElement(case, "error", said).text = text
    elif is_red(cell.state):
        ET.SubElement(case, "failure", said).text = text
    if log := _clean("\n".join(_log(cell))):
        ET.SubElement(case, "system-out").text = log
    return case


def _evidence(cell: CellResult) -> Iterator[str]:
    if cell.reason:
        yield f"{cell.state}: {tidy(cell.reason)}"
    if cell.hint:
        yield f"hint: {cell.hint}"
    for diagnostic in cell.diagnostics:
        if diagnostic["severity"] == "error":
            yield from diagnostic["lines"]
    for module in cell.modules:
        if module["reason"]:
            yield f"{module['name']}: {module['verdict']}: {module['reason']}"
        for problem in module["problems"]:
            yield from _problem(problem)
    for failure in cell.tests["failures"] if cell.tests else ():
        yield f"{failure['test']}: {failure['message']}"
    if cell.error:
        yield from cell.error["evidence"]
    if log := _log(cell):
        yield from ("", "the end of the log:", *log[-_TAIL:])


def _problem(problem: dict[str, Any]) -> Iterator[str]:
    yield f"{problem['kind']}: {problem['summary']}{where(problem)}"
    if source := problem["source"]:
        yield f"  {source['file']}:{source['line']}"
        yield from (f"  {line}" for line in numbered(source))
    for each in problem["trace"]:
        if each["reliable"] and each["places"]:
            yield f"  {frame(each)}"


def _log(cell: CellResult) -> list[str]:
    records = [record for module in cell.modules for record in module["log"]]
    return [f"[{record['time']:12.6f}] {record['text']}" for record in records[-_MOST:]]


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
