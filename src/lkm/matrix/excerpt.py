"""The lines around a place in a source, taken while the file is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lkm.kbuild import Diagnostic

__all__ = ["excerpt", "with_excerpts"]

_AROUND = 2
_WIDEST = 400
_LARGEST = 4 << 20
MOST = 20
"""Diagnostics of a cell that are kept, errors first: the hundredth says nothing that the first did not."""


def excerpt(file: str | None, line: int | None) -> dict[str, Any] | None:
    """Five lines of a file with `line` in the middle; None where they cannot be read.

    `first` is the number of the first of `lines`.
    """
    if not file or not line:
        return None
    path = Path(file)
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError:
        return None
    if line > len(lines):
        return None
    first = max(1, line - _AROUND)
    shown = [text[:_WIDEST].rstrip("\r") for text in lines[first - 1 : line + _AROUND]]
    return {"file": file, "line": line, "first": first, "lines": shown}


def with_excerpts(diagnostics: Iterable[Diagnostic], roots: Iterable[Path]) -> list[dict[str, Any]]:
    """The diagnostics as JSON has them, errors first, each with an `excerpt` of a file below one of `roots`."""
    allowed = [root.resolve() for root in roots]
    ordered = sorted(diagnostics, key=lambda each: each.severity != "error")
    return [
        {**each.to_dict(), "lines": list(each.lines), "excerpt": _allowed(each, allowed)}
        for each in ordered[:MOST]
    ]


def _allowed(diagnostic: Diagnostic, roots: list[Path]) -> dict[str, Any] | None:
    """An untrusted Makefile may print any path: nothing outside the source and the kernel is read."""
    if diagnostic.file is None:
        return None
    try:
        real = Path(diagnostic.file).resolve()
    except (OSError, RuntimeError, ValueError):
        return None
    if not any(real.is_relative_to(root) for root in roots):
        return None
    return excerpt(diagnostic.file, diagnostic.line)
