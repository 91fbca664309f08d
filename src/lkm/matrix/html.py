"""A matrix as one page without network: a map of kernels against sources, and each cell's story below it.

Everything that a guest, a compiler or a test printed is a stranger's text: it goes through `escape`, all of
it, and the page's policy forbids scripts but its own, which is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape as _escape
from importlib.resources import files
from typing import Any

from lkm._version import VERSION
from lkm.matrix.group import row_of, short_names, tidy
from lkm.matrix.outcome import CellResult, is_red
from lkm.matrix.report import Report

__all__ = ["page"]

_WORDS = {
    "ok": "ok", "build-failed": "build", "load-failed": "load", "unload-failed": "unload",
    "tests-failed": "tests", "excluded": "excluded", "bad-input": "input",
}  # fmt: skip
_MARKS = {"good": "\u2713", "bad": "\u2717", "none": "?", "out": "\u2013"}
_MOST = 300
"""Lines of a log that a page has; the JSON document has all."""


def page(done: Report) -> str:
    """The page."""
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{_title(done)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            *_head(done),
            *_map(done),
            *_reasons(done),
            *_cells(done),
            f"<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def _file(name: str) -> str:
    return (files("lkm.matrix") / name).read_text("utf-8")


def escape(text: object) -> str:
    """Text as HTML shows it, with control characters made visible."""
    shown = "".join(
        char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in str(text)
    )
    return _escape(shown)


def _title(done: Report) -> str:
    names = [source.name for source in done.plan.sources]
    many = (
        f"{', '.join(names[:3])} and {len(names) - 3} more" if len(names) > 3 else ", ".join(names)
    )
    return escape(f"{many} on {len(done.plan.kernels)} kernels")


def _head(done: Report) -> Iterator[str]:
    yield f"<header><h1>{_title(done)}</h1>"
    counts = " ".join(
        f'<li class="{_kind(state)}"><b>{number}</b> {_mark(state)} {escape(state)}</li>'
        for state, number in done.counts.items()
    )
    yield f'<ul class="counts">{counts}</ul></header>\n<main>'


def _kind(state: str) -> str:
    if is_red(state):
        return "bad"
    return {"ok": "good", "excluded": "out"}.get(state, "none")


def _mark(state: str) -> str:
    return f'<span aria-hidden="true">{_MARKS[_kind(state)]}</span>'


def _map(done: Report) -> Iterator[str]:
    names = short_names(done.plan.kernels)
    yield '<section aria-label="map"><div class="scroll"><table class="map"><thead><tr><td></td>'
    for kernel, name in names.items():
        yield f'<th scope="col" title="{escape(kernel)}"><span>{escape(name)}</span></th>'
    yield "</tr></thead><tbody>"
    for index, row in enumerate(done.rows):
        yield f'<tr><th scope="row">{escape(row)}</th>'
        for column, kernel in enumerate(done.plan.kernels):
            yield _square(done.by_place.get((row, kernel)), f"c{index}-{column}")
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _square(cell: CellResult | None, anchor: str) -> str:
    if cell is None:
        return '<td class="none">.</td>'
    label = f"{row_of(cell)} on {cell.kernel}: {cell.state}"
    title = f"{label}: {tidy(cell.reason)}" if cell.reason else label
    word = escape(_WORDS.get(cell.state, cell.state))
    return (
        f'<td class="{_kind(cell.state)}"><a href="#{anchor}" aria-label="{escape(label)}"'
        f' title="{escape(title)}">{_mark(cell.state)} {word}</a></td>'
    )


def _reasons(done: Report) -> Iterator[str]:
    if not done.groups:
        return
    yield "<section><h2>Reasons</h2><ul class=reasons>"
    for group in done.groups:
        rows = ", ".join(group.rows)
        yield (
            f'<li class="{_kind(group.state)}"><p><b>{escape(group.where)}</b> {_mark(group.state)}'
            f" {escape(group.state)} <small>{escape(rows)}</small></p><p>{escape(group.reason)}</p></li>"
        )
    yield "</ul></section>"


def _cells(done: Report) -> Iterator[str]:
    yield "<section><h2>Cells</h2>"
    for index, row in enumerate(done.rows):
        for column, kernel in enumerate(done.plan.kernels):
            if cell := done.by_place.get((row, kernel)):
                yield from _cell(cell, f"c{index}-{column}")
    yield f"</section></main>\n<footer>lkm {VERSION}, {len(done.results)} cells, {done.seconds:.1f} s</footer>"


def _cell(cell: CellResult, anchor: str) -> Iterator[str]:
    is_open = " open" if is_red(cell.state) else ""
    yield (
        f'<details id="{anchor}" class="cell {_kind(cell.state)}"{is_open}><summary>{_mark(cell.state)}'
        f" <b>{escape(row_of(cell))}</b> on {escape(cell.kernel)}: {escape(cell.state)}</summary>"
    )
    if cell.reason:
        yield f"<p>{escape(cell.reason)}</p>"
    if cell.hint:
        yield f"<p>hint: {escape(cell.hint)}</p>"
    for diagnostic in cell.diagnostics:
        yield from _diagnostic(diagnostic)
    for module in cell.modules:
        yield from _module(module)
    if cell.tests and cell.tests["tests"]:
        yield from _tests(cell.tests)
    if cell.error:
        yield _pre(cell.error["evidence"])
    kept = ", kept from an earlier run" if cell.kept else ""
    yield f"<p><small>{cell.seconds:.2f} s on {escape(cell.worker)}{kept}</small></p></details>"


def _diagnostic(diagnostic: dict[str, Any]) -> Iterator[str]:
    place = diagnostic["file"] or ""
    if diagnostic["line"]:
        place += f":{diagnostic['line']}"
    yield f"<h3>{escape(diagnostic['severity'])} {escape(place)}</h3><p>{escape(diagnostic['text'])}</p>"
    if diagnostic["excerpt"]:
        yield _source(diagnostic["excerpt"])


def _source(source: dict[str, Any]) -> str:
    lines = []
    for number, text in enumerate(source["lines"], source["first"]):
        shown = f"{'>' if number == source['line'] else ' '}{number:5}  {escape(text)}"
        lines.append(f"<mark>{shown}</mark>" if number == source["line"] else shown)
    body = "\n".join(lines)
    return f'<pre class="source" tabindex="0">{body}</pre>'


def _module(module: dict[str, Any]) -> Iterator[str]:
    why = f": {module['reason']}" if module["reason"] else ""
    yield f"<h3>{escape(module['name'])}: {escape(module['verdict'])}{escape(why)}</h3>"
    for problem in module["problems"]:
        yield from _problem(problem)
    check = module.get("check")
    if check and check["verdict"] != "ok":
        yield "<p>foretold:</p>" + _pre(
            f"{each['what']}: {each['why']}" for each in check["findings"]
        )
    if module["log"]:
        lines = [f"[{record['time']:12.6f}] {record['text']}" for record in module["log"]]
        yield _pre(lines[:_MOST])
        if len(lines) > _MOST:
            yield f"<p>and {len(lines) - _MOST} more lines; the JSON document has them all</p>"


def _problem(problem: dict[str, Any]) -> Iterator[str]:
    where = f" in {problem['function']}()" if problem["function"] else ""
    yield f"<p><b>{escape(problem['kind'])}</b> {escape(problem['summary'])}{escape(where)}</p>"
    if source := problem.get("source"):
        yield f"<p>{escape(source['file'])}:{source['line']}</p>{_source(source)}"
    if trace := [_frame(frame) for frame in problem["trace"] if frame["reliable"]]:
        yield _pre(trace)


def _frame(frame: dict[str, Any]) -> str:
    name = frame["function"] or f"{frame['address'] or 0:#x}"
    module = f" [{frame['module']}]" if frame["module"] else ""
    places = (f"{place['file']}:{place['line']}" for place in frame.get("places") or ())
    return f"{name}{module}  {' in '.join(places)}".rstrip()


def _tests(tests: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{tests['tests']} tests: {tests['failed']} failed, {tests['skipped']} skipped</h3>"
    for failure in tests["failures"]:
        yield f"<p>{escape(failure['test'])}: {escape(failure['message'])}</p>"
        yield _pre(failure["text"].split("\n"))


def _pre(lines: Iterable[str]) -> str:
    body = escape("\n".join(lines))
    return f'<pre tabindex="0">{body}</pre>' if body else ""
