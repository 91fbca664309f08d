"""Errors as the user's own code sees them: without lkm's frames, and without what was wrong inside lkm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from lkm.errors import HostError, LkmError, MachineError, ModuleFailure

__all__ = ["has_users_frames", "is_in_ours", "is_infrastructure", "told", "without_ours"]

_OURS = str(Path(__file__).parents[1])
_PYTESTS = ("/_pytest/", "/pluggy/", "/contextlib.py")


def told(error: BaseException) -> LkmError | None:
    """The error of lkm that tells what happened: itself, or the first cause in a group of nothing else.

    One of lkm's own that came of a dead machine stands behind what killed it.
    """
    if isinstance(error, LkmError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    parts = [told(part) for part in error.exceptions]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return max(known, key=lambda part: (is_infrastructure(part), isinstance(part, ModuleFailure)))


def is_infrastructure(error: LkmError) -> bool:
    """Whether neither the test nor the module is to blame."""
    return isinstance(error, HostError | MachineError)


def without_ours(error: BaseException) -> BaseException:
    """The error, and those that it came from, without lkm's frames; of what has no others nothing is left."""
    error.__traceback__ = _stripped(error.__traceback__) or error.__traceback__
    inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if inner is not None:
        without_ours(inner)
        if isinstance(error, LkmError) and not has_users_frames(inner):
            error.__cause__ = None
            error.__suppress_context__ = True
    return error


def is_in_ours(error: BaseException) -> bool:
    """Whether it was raised inside lkm, by a call of the user's."""
    *_, last = ("", *(each.tb_frame.f_code.co_filename for each in _entries(error.__traceback__)))
    return _is_ours(last) and has_users_frames(error)


def has_users_frames(error: BaseException) -> bool:
    """Whether any of its frames is neither lkm's nor pytest's."""
    names = (each.tb_frame.f_code.co_filename for each in _entries(error.__traceback__))
    return any(not _is_ours(name) and not any(part in name for part in _PYTESTS) for name in names)


def _stripped(trace: TracebackType | None) -> TracebackType | None:
    kept: TracebackType | None = None
    for each in reversed(list(_entries(trace))):
        name = each.tb_frame.f_code.co_filename
        if not _is_ours(name) and not name.endswith("/contextlib.py"):
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def _is_ours(name: str) -> bool:
    return name.startswith(f"{_OURS}/")


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
