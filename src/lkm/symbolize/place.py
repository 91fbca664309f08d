"""A place in the source."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A function of the source, and where in it: the file as the compiler called it, line and column from 1.

    `line` is None where the compiler gave code to no line, `file` where no table has it.
    """

    function: str
    file: str | None
    line: int | None
    column: int | None = None
