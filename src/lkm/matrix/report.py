"""A matrix that ran, whole: its results in order, their reasons grouped, and the document of `--json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lkm._version import VERSION
from lkm.matrix.group import Group, grouped, row_of
from lkm.matrix.outcome import CellResult
from lkm.matrix.plan import Plan

__all__ = ["Report", "duration", "report"]

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """The results of a plan, row by row and in the order of its kernels. `seconds` are of wall time."""

    plan: Plan
    results: tuple[CellResult, ...]
    seconds: float

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows: a source and its parameters."""
        return tuple(dict.fromkeys(map(row_of, self.results)))

    @cached_property
    def by_place(self) -> dict[tuple[str, str], CellResult]:
        """The results by row and kernel."""
        return {(row_of(result), result.kernel): result for result in self.results}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Why cells are not `ok`."""
        return grouped(self.results, self.plan.kernels)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many cells have each state, the most frequent first."""
        return dict(Counter(result.state for result in self.results).most_common())

    def to_dict(self) -> dict[str, Any]:
        """The document that `lkm matrix --json` prints."""
        return {
            "schema": SCHEMA,
            "lkm": VERSION,
            "kernels": list(self.plan.kernels),
            "sources": [
                {"name": source.name, "path": str(source.path), "digest": source.digest}
                for source in self.plan.sources
            ],
            "cells": [result.to_dict() for result in self.results],
            "groups": [group.to_dict() for group in self.groups],
            "counts": self.counts,
            "seconds": round(self.seconds, 3),
        }


def report(plan: Plan, results: Iterable[CellResult], seconds: float) -> Report:
    """The report of a plan whose cells ended in any order; a cell that did not end is left out."""
    by_place = {(result.source, result.params, result.kernel): result for result in results}
    ordered = [
        by_place[cell.source.name, " ".join(cell.params), cell.kernel]
        for cell in plan.cells()
        if (cell.source.name, " ".join(cell.params), cell.kernel) in by_place
    ]
    return Report(plan, tuple(ordered), seconds)


def duration(seconds: float) -> str:
    """Wall time for people: `93 ms`, `9.31 s`, `2 min 27 s`, `3 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
