"""What became of a cell: plain data that survives pickling, JSON, and a night on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from lkm.errors import BuildError, LkmError, MachineError, ModuleFailure, UsageError
from lkm.verdict import Verdict

__all__ = ["CellResult", "State", "exit_code", "gravest", "is_red", "of_error"]


class State(StrEnum):
    """What a cell can be besides a verdict on its modules."""

    TESTS_FAILED = "tests-failed"
    BAD_INPUT = "bad-input"
    ERROR = "error"


_EXCLUDED = "excluded"
_FINE = (Verdict.OK.value, _EXCLUDED)
_LAST = (Verdict.BUILD_FAILED.value, State.TESTS_FAILED.value, *_FINE)
"""States from the gravest on, after those of a module that the kernel met."""
_MET = (Verdict.PANIC.value, Verdict.HUNG.value, Verdict.PROBLEM.value)


@dataclass(frozen=True)
class CellResult:
    """What became of one source on one kernel with one set of parameters.

    `state` is the gravest verdict on its modules, or a State; `reason` one line, None where it is `ok`.
    `modules` have the fields of `lkm run --json` and `check`, what was foretold of each. `diagnostics` are the
    compiler's, each with an `excerpt` of its source. `tests` counts those of the source's own suite, and is
    None where that did not run. `error` says why there is no verdict. `kernel_identity` and
    `toolchain_identity` are what it was tried with, None where it did not come so far. `seconds` are of wall
    time. `worker` is where it ran. `kept` says that it did not run now.
    """

    source: str
    kernel: str
    params: str
    state: str
    reason: str | None = None
    hint: str | None = None
    modules: tuple[dict[str, Any], ...] = ()
    diagnostics: tuple[dict[str, Any], ...] = ()
    tests: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    kernel_identity: str | None = None
    toolchain_identity: str | None = None
    seconds: float = 0.0
    worker: str = ""
    kept: bool = False

    @property
    def is_verdict(self) -> bool:
        """Whether it says something about the source, and not about the infrastructure or the question."""
        return self.state not in (State.BAD_INPUT, State.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """The cell as `lkm matrix --json` has it."""
        lists = {"modules": list(self.modules), "diagnostics": list(self.diagnostics)}
        return {**asdict(self), **lists, "seconds": round(self.seconds, 3)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CellResult:
        """The inverse of `to_dict`. Raises TypeError or KeyError for anything else."""
        known = {field.name: data[field.name] for field in fields(cls)}
        lists = {name: tuple(known[name]) for name in ("modules", "diagnostics")}
        if not isinstance(known["state"], str) or not all(
            isinstance(m, dict) for m in lists["modules"]
        ):
            raise TypeError("not a cell")
        return cls(**{**known, **lists})


def is_red(state: str) -> bool:
    """Whether the state says that the source fails on that kernel."""
    return state not in (*_FINE, State.BAD_INPUT, State.ERROR)


def gravest(states: Iterable[str]) -> str:
    """The state of a cell whose modules have these; `ok` for none."""
    return min(states, key=_rank, default=Verdict.OK.value)


def _rank(state: str) -> tuple[int, int]:
    if state in _MET:
        return 0, _MET.index(state)
    # A module that is ok beside one that is excluded: the cell is ok.
    return (2, _LAST.index(state)) if state in _FINE else _between(state)


def _between(state: str) -> tuple[int, int]:
    return 1, 1 + _LAST.index(state) if state in _LAST else 0


def of_error(error: Exception) -> tuple[str, dict[str, Any]]:
    """The state of a cell that ended with an exception, and what it says of it."""
    if not isinstance(error, LkmError):
        error = MachineError(f"this is a bug in lkm: {error!r}", stage="lkm")
    state = State.BAD_INPUT if isinstance(error, UsageError) else State.ERROR
    return state.value, {
        "type": type(error).__name__,
        "summary": error.summary,
        "evidence": list(error.evidence),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def exit_code(results: Iterable[CellResult]) -> int:
    """What a matrix ends with: 4 or 1 where a source fails, else 2, 5 or 3 where a cell has no verdict, else 0.

    A red cell comes first, because trying again would not make it green.
    """
    codes = {_code(result) for result in results}
    order = (BuildError.exit_code, ModuleFailure.exit_code, UsageError.exit_code, 5, 3)
    return next((code for code in order if code in codes), 0)


def _code(result: CellResult) -> int:
    if result.error:
        return int(result.error["exit_code"])
    if result.state == Verdict.BUILD_FAILED:
        return BuildError.exit_code
    return ModuleFailure.exit_code if is_red(result.state) else 0
