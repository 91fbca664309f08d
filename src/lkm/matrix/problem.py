"""A decoded problem of a cell, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["frame", "numbered", "where"]


def where(problem: Mapping[str, Any]) -> str:
    """` in f()`, or nothing where the function is not known."""
    # gcc names a copy of a function `f.constprop.0`; the source has only `f`.
    name = (problem["function"] or "").partition(".")[0]
    return f" in {name}()" if name else ""


def numbered(excerpt: Mapping[str, Any]) -> Iterator[str]:
    """The lines of an excerpt with their numbers, `>` before the one that it is about."""
    for number, text in enumerate(excerpt["lines"], excerpt["first"]):
        mark = ">" if number == excerpt["line"] else " "
        yield f"{mark} {number:4} | {text.expandtabs(8)}".rstrip()


def frame(of: Mapping[str, Any]) -> str:
    """A frame of a trace: function, module, and the places in the source, innermost first."""
    name = of["function"] or f"{of['address'] or 0:#x}"
    module = f" [{of['module']}]" if of["module"] else ""
    places = (f"{place['file']}:{place['line']}" for place in of.get("places") or ())
    return f"{name}{module}  {' in '.join(places)}".rstrip()
