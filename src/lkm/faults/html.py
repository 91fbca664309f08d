"""The source with each call that can fail marked: dealt with, not dealt with, never made. One file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.faults.fault import Fault, Result

if TYPE_CHECKING:
    from lkm.faults.campaign import Faults

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #c62828; --none: #8a6d00;
  --line: #8884; --soft: #8882; }
@media (prefers-color-scheme: dark) { :root { --good: #57c274; --bad: #ff7b72; --none: #d9b33c; } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 72rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .4rem; overflow-wrap: anywhere }
p { margin: .3rem 0 }
.good { color: var(--good) } .bad { color: var(--bad) } .none { color: var(--none) }
.mark { font-weight: 600 }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem; border-top: 1px solid var(--line) }
tr:first-child > * { border-top: 0 }
.test { overflow-wrap: anywhere; background: var(--soft) }
td { overflow-wrap: break-word } td:last-child { overflow-wrap: anywhere }
.code { font: 13px/1.45 ui-monospace, monospace }
.code td { border: 0; padding: 0 .6rem; white-space: pre; overflow-wrap: normal }
.code td.number { text-align: right; color: #888; user-select: none; border-right: 3px solid transparent;
  width: 1% }
.code tr.good td.number { border-color: var(--good) } .code tr.bad td.number { border-color: var(--bad) }
.code tr.none td.number { border-color: var(--none) }
.code tr.good td, .code tr.bad td, .code tr.none td { background: var(--soft); color: inherit }
.code tr.note td { background: var(--soft); white-space: pre-wrap; font-family: system-ui, sans-serif }
.note .mark { display: inline-block; position: sticky; left: .6rem; max-width: min(62rem, calc(100vw - 5rem)) }
@media (max-width: 40rem) { body { padding: .5rem } th:nth-child(2), td.phase { display: none } }
"""


def page(found: Faults) -> str:
    """The whole page."""
    name = escape(found.subject.target.name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: faults</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n<h1>{name}</h1>\n{_summary(found)}\n"
        f"{_table(found.faults)}\n{_sources(found)}\n</body></html>\n"
    )


def _summary(found: Faults) -> str:
    bad = sum(fault.result.is_bad for fault in found.faults)
    good = len(found.faults) - bad
    return (
        f"<p>Each call that can fail, failed alone on a fresh {escape(found.subject.kernel.release)}:"
        f' <span class="mark good">{good} dealt with</span>,'
        f' <span class="mark bad">{bad} not</span>,'
        f' <span class="mark none">{len(found.never)} never made</span>.</p>'
    )


def _class(result: Result) -> str:
    if result is Result.NOT_REACHED:
        return "none"
    return "bad" if result.is_bad else "good"


def _table(faults: Iterable[Fault]) -> str:
    rows = [
        "<tr>"
        + "".join(f"<th>{head}</th>" for head in ("#", "phase", "call", "place", "result"))
        + "</tr>"
    ]
    test = None
    for fault in faults:
        if fault.test != test:
            rows.append(f'<tr><th class="test" colspan="5">{escape(fault.test or "")}</th></tr>')
        test = fault.test
        place = f"{Path(fault.file).name}:{fault.line}" if fault.file else fault.function or ""
        more = fault.reason or fault.errno
        said = f" {escape(more)}" if more else ""
        rows.append(
            f'<tr><td>{fault.n}</td><td class="phase">{escape(fault.phase or "")}</td>'
            f"<td>{escape(fault.call or '')}</td><td>{escape(place)}</td>"
            f'<td><span class="mark {_class(fault.result)}">{fault.result}</span>{said}</td></tr>'
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


Notes = Mapping[int, list[tuple[str, str]]]


def _sources(found: Faults) -> str:
    """Each source file with a call in it, where it can still be read."""
    notes: dict[str, dict[int, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for fault in found.faults:
        if fault.file and fault.line:
            more = fault.reason or fault.errno
            text = f"#{fault.n} {fault.call} fails in {fault.phase}: {fault.result}"
            note = (_class(fault.result), f"{text}, {more}" if more else text)
            notes[fault.file][fault.line].append(note)
    for never in found.never_reached():
        if never["file"] and never["line"]:
            notes[never["file"]][never["line"]].append(("none", f"{never['call']}: never made"))
    return "\n".join(_source(file, lines) for file, lines in sorted(notes.items()))


def _source(file: str, notes: Notes) -> str:
    try:
        lines = Path(file).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return f"<h2>{escape(file)}</h2><p>It cannot be read any more.</p>"
    rows = "".join(
        _row(number, line, notes.get(number, [])) for number, line in enumerate(lines, 1)
    )
    return f'<h2>{escape(file)}</h2><div class="scroll"><table class="code">{rows}</table></div>'


def _row(number: int, line: str, notes: list[tuple[str, str]]) -> str:
    worst = next((kind for kind in ("bad", "none", "good") if kind in {n[0] for n in notes}), "")
    row = (
        f'<tr class="{worst}"><td class="number">{number}</td>'
        f"<td>{escape(line.expandtabs(8))}</td></tr>"
    )
    return row + "".join(
        f'<tr class="note"><td></td><td><span class="mark {kind}">{escape(text)}</span></td></tr>'
        for kind, text in notes
    )
