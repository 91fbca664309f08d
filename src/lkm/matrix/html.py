"""A matrix as one page without network: a map of kernels against sources, and each cell's story below it.

Everything that a guest, a compiler or a test printed is a stranger's text: it goes through `escape`, all of
it, and the page's policy forbids scripts but its own, which is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape as _escape
from importlib.resources import files
from typing import Any

from lkm._version import VERSION
from lkm.matrix.group import Group, row_of, short_names, tidy
from lkm.matrix.outcome import CellResult, is_red
from lkm.matrix.problem import frame, where
from lkm.matrix.report import Report, duration

__all__ = ["page"]

_WORDS = {
    "ok": "ok", "build-failed": "build", "load-failed": "load", "unload-failed": "unload",
    "tests-failed": "tests", "excluded": "excluded", "bad-input": "input",
}  # fmt: skip
_MARKS = {"good": "\u2713", "bad": "\u2717", "none": "?", "out": "\u2013"}
_FEW = 14
"""Kernels of which a printed map has the words; with more it has the marks alone."""
_MOST = 300
"""Lines of a log that a page has; the JSON document has all."""


def page(done: Report, when: datetime | None = None) -> str:
    """The page, made at `when`, now by default."""
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
            *_head(done, when or datetime.now(UTC)),
            *_map(done),
            *_reasons(done),
            *_cells(done),
            f"</main>\n<script>{script}</script>\n</body>\n</html>\n",
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


def _head(done: Report, when: datetime) -> Iterator[str]:
    yield f"<header><h1>{_title(done)}</h1>"
    counts = " ".join(
        f'<li class="{_kind(state)}"><b>{number}</b> {_mark(state)} {escape(state)}</li>'
        for state, number in done.counts.items()
    )
    yield f'<ul class="counts">{counts}</ul>'
    made = f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC, lkm {VERSION}, {duration(done.seconds)}"
    kept = sum(result.kept for result in done.results)
    unchanged = f", {kept} of {len(done.results)} cells kept from earlier runs" if kept else ""
    yield f"<p><small>{made}{unchanged}</small></p>"
    links = [*([_link("reasons", "Reasons")] if done.groups else []), _link("cells", "Cells")]
    yield f"<nav>{' '.join(links)}</nav></header>\n<main>"


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{anchor}">{escape(text)}</a>'


def _kind(state: str) -> str:
    if is_red(state):
        return "bad"
    return {"ok": "good", "excluded": "out"}.get(state, "none")


def _mark(state: str) -> str:
    return f'<span aria-hidden="true">{_MARKS[_kind(state)]}</span>'


def _map(done: Report) -> Iterator[str]:
    names = short_names(done.plan.kernels)
    many = " many" if len(names) > _FEW else ""
    yield f'<section aria-label="map"><div class="scroll"><table class="map{many}"><thead><tr><td></td>'
    for kernel, name in names.items():
        yield f'<th scope="col" title="{escape(kernel)}"><span>{escape(name)}</span></th>'
    yield "</tr></thead><tbody>"
    for index, row in enumerate(done.rows):
        yield f'<tr><th scope="row"><span>{escape(row)}</span></th>'
        for column, kernel in enumerate(done.plan.kernels):
            yield _square(done.by_place.get((row, kernel)), f"{index}-{column}")
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _square(cell: CellResult | None, place: str) -> str:
    if cell is None:
        return '<td><span title="did not run">\N{MIDDLE DOT}</span></td>'
    label = f"{row_of(cell)} on {cell.kernel}: {cell.state}"
    title = f"{label}: {tidy(cell.reason)}" if cell.reason else label
    word = escape(_WORDS.get(cell.state, cell.state))
    return (
        f'<td class="{_kind(cell.state)}"><a id="m{place}" href="#c{place}" aria-label="{escape(label)}"'
        f' title="{escape(title)}">{_mark(cell.state)} <span>{word}</span></a></td>'
    )


def _reasons(done: Report) -> Iterator[str]:
    if not done.groups:
        return
    yield '<section><h2 id="reasons">Reasons</h2><ul class="reasons">'
    for group in done.groups:
        rows = ", ".join(_link(_anchor(done, row, group), row) for row in group.rows)
        yield (
            f'<li class="{_kind(group.state)}"><p>{escape(group.reason)}: <b>{escape(group.where)}</b></p>'
            f"<p><small>{_mark(group.state)} {escape(group.state)}: {rows}</small></p></li>"
        )
    yield "</ul></section>"


def _anchor(done: Report, row: str, group: Group) -> str:
    """The story of a row's first cell of a group."""
    return f"c{done.rows.index(row)}-{done.plan.kernels.index(group.kernels[0])}"


def _cells(done: Report) -> Iterator[str]:
    """Each cell's story; those open that tell a red reason for the first time."""
    told = {_anchor(done, group.rows[0], group) for group in done.groups if is_red(group.state)}
    yield '<section><h2 id="cells">Cells</h2>'
    for index, row in enumerate(done.rows):
        yield f"<h3>{escape(row)}</h3>"
        for column, kernel in enumerate(done.plan.kernels):
            if cell := done.by_place.get((row, kernel)):
                place = f"{index}-{column}"
                yield from _cell(cell, place, is_open=f"c{place}" in told)
    yield "</section>"


def _cell(cell: CellResult, place: str, *, is_open: bool) -> Iterator[str]:
    reason = f": {escape(tidy(cell.reason))}" if cell.reason else ""
    yield (
        f'<details id="c{place}" class="cell {_kind(cell.state)}"{" open" if is_open else ""}><summary>'
        f"{_mark(cell.state)} {escape(row_of(cell))} on <b>{escape(cell.kernel)}</b>:"
        f" {escape(cell.state)}{reason}</summary>"
    )
    if cell.hint:
        yield f"<p>hint: {escape(cell.hint)}</p>"
    errors = [each for each in cell.diagnostics if each["severity"] == "error"]
    for diagnostic in errors:
        yield from _diagnostic(diagnostic)
    for module in cell.modules:
        if module["verdict"] != "build-failed":  # the errors say it
            yield from _module(module, cell.reason)
    if cell.tests and cell.tests["tests"]:
        yield from _tests(cell.tests)
    if cell.error:
        yield _pre(cell.error["evidence"])
    for diagnostic in cell.diagnostics:
        if diagnostic not in errors:
            yield from _diagnostic(diagnostic)
    kept = ", kept from an earlier run" if cell.kept else ""
    where = f" on {escape(cell.worker)}" if cell.worker else ""
    yield (
        f"<p><small>{duration(cell.seconds)}{where}{kept}; {_link(f'm{place}', 'back to the map')}"
        "</small></p></details>"
    )


def _diagnostic(diagnostic: dict[str, Any]) -> Iterator[str]:
    place = diagnostic["file"] or ""
    if diagnostic["line"]:
        place += f":{diagnostic['line']}"
    yield f"<h4>{escape(diagnostic['severity'])} {escape(place)}</h4><p>{escape(diagnostic['text'])}</p>"
    if diagnostic["excerpt"]:
        yield _source(diagnostic["excerpt"])


def _source(source: dict[str, Any]) -> str:
    lines = []
    for number, text in enumerate(source["lines"], source["first"]):
        shown = f"{'>' if number == source['line'] else ' '}{number:5}  {escape(text)}"
        lines.append(f"<mark>{shown}</mark>" if number == source["line"] else shown)
    body = "\n".join(lines)
    return f'<pre class="source" tabindex="0">{body}</pre>'


def _module(module: dict[str, Any], known: str | None) -> Iterator[str]:
    """The story of a module; its reason, where it is not the cell's, which is known."""
    why = f": {module['reason']}" if module["reason"] and module["reason"] != known else ""
    yield f"<h4>{escape(module['name'])}: {escape(module['verdict'])}{escape(why)}</h4>"
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
    said = f"{problem['summary']}{where(problem)}"
    yield f"<p><b>{escape(problem['kind'])}</b> {escape(said)}</p>"
    if source := problem.get("source"):
        yield f"<p>{escape(source['file'])}:{source['line']}</p>{_source(source)}"
    if trace := [frame(each) for each in problem["trace"] if each["reliable"]]:
        yield _pre(trace)


def _tests(tests: dict[str, Any]) -> Iterator[str]:
    yield f"<h4>{tests['tests']} tests: {tests['failed']} failed, {tests['skipped']} skipped</h4>"
    for failure in tests["failures"]:
        yield f"<p>{escape(failure['test'])}: {escape(failure['message'])}</p>"
        yield _pre(failure["text"].split("\n"))


def _pre(lines: Iterable[str]) -> str:
    body = escape("\n".join(lines))
    return f'<pre tabindex="0">{body}</pre>' if body else ""
