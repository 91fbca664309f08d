"""One cell: a source on a kernel. It can run in any process on any computer, and says itself what it needs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkm import code
from lkm.errors import HostError, LkmError, UsageError
from lkm.machine import DEFAULT_TIMEOUT
from lkm.matrix import sources
from lkm.matrix.outcome import CellResult, State, gravest, of_error
from lkm.matrix.sources import Source
from lkm.verdict import Verdict

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Guest
    from lkm.run import Run

__all__ = ["Cell", "run_cell"]


@dataclass(frozen=True)
class Cell:
    """A source, a kernel by the name that `store.get` takes, and parameters as on the command line.

    `tests` adds the source's own pytest suite. `code` is the lkm that made the cell (`code.identity`); another
    one refuses it.
    """

    source: Source
    kernel: str
    params: tuple[str, ...] = ()
    tests: bool = False
    timeout: float = DEFAULT_TIMEOUT
    code: str = ""

    @property
    def row(self) -> str:
        """What the row of this cell is called: the source and its parameters."""
        return " ".join((self.source.name, *self.params))


def run_cell(cell: Cell) -> CellResult:
    """Build, check, load, log, unload; with `tests` the suite. Never raises an Exception: it is in the result.

    The kernel is fetched into this computer's store where it is not there. Verdicts are what the kernel did;
    what stopped lkm itself is state `error`, and what it cannot do for this source `bad-input`.
    """
    started = time.monotonic()
    blank = CellResult(cell.source.name, cell.kernel, " ".join(cell.params), State.ERROR.value)
    try:
        result = _run(cell, blank)
    except Exception as error:  # noqa: BLE001 - a cell that fails must not end the others
        state, told = of_error(_as_ours(error))
        result = replace(blank, state=state, reason=told["summary"], hint=told["hint"], error=told)
    return replace(
        result,
        seconds=time.monotonic() - started,
        worker=f"{platform.node()}/{os.getpid()}",
    )


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, OSError) and not isinstance(error, LkmError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return HostError(what, hint="df -h, and ls -ld of that path")
    return error


def _run(cell: Cell, blank: CellResult) -> CellResult:
    from lkm.kernels import store
    from lkm.params import parse_assignments

    if cell.code and cell.code != code.identity():
        raise _another_lkm(cell)
    kernel = store.get(cell.kernel)
    path = sources.place(cell.source)
    outcome = _loaded(path, kernel, parse_assignments(list(cell.params)), cell.timeout)
    result = _told(blank, outcome, path, kernel)
    if cell.tests and _may_be_tested(result.state):
        result = _tested(result, path)
    if not sources.is_unchanged(cell.source, path, tests=cell.tests):
        raise sources.changed(cell.source)
    identity = kernel.identity, kernel.toolchain.identity
    result = replace(result, kernel_identity=identity[0], toolchain_identity=identity[1])
    return _relative(result, path, kernel)


def _another_lkm(cell: Cell) -> HostError:
    from lkm._version import VERSION

    return HostError(
        f"the lkm of {platform.node()} ({VERSION}, {code.identity()}) is not the one that asks ({cell.code})",
        hint="install the same version of lkm on every worker",
    )


def _loaded(path: Path, kernel: Kernel, params: Mapping[str, str | None], timeout: float) -> Run:
    from lkm.run import Limits, Rig, run, twins
    from lkm.vm.fresh import Fresh

    with ExitStack() as stack:
        # Not ahead of the build, as `lkm run` does it: here every core has something to do.
        def machine(_module: str = "") -> Guest:
            return stack.enter_context(Fresh(kernel)).machine()

        where = twins(machine, kernel)
        rig = Rig(machine, Limits(timeout), where=where, another=machine)
        return run(path, kernel, rig, params=params)


def _told(blank: CellResult, outcome: Run, path: Path, kernel: Kernel) -> CellResult:
    worst = gravest(module.verdict.value for module in outcome.modules)
    said = next((m for m in outcome.modules if m.verdict.value == worst), None)
    # The hint of a failed build names files of this computer.
    hint = said.hint if said and not outcome.error else None
    diagnostics = tuple(_diagnostics(outcome, path, kernel))
    return replace(
        blank,
        state=worst,
        reason=_first_error(outcome, diagnostics) or (said.reason if said else None),
        hint=hint,
        modules=_modules(outcome, path, kernel),
        diagnostics=diagnostics,
    )


def _first_error(outcome: Run, diagnostics: Sequence[dict[str, Any]]) -> str | None:
    """What the compiler, modpost or make said first; only that is the same on several kernels."""
    if outcome.error is None:
        return None
    errors = (each for each in diagnostics if each["severity"] == "error")
    return next((f"error: {each['text']}" for each in errors), None)


def _modules(outcome: Run, path: Path, kernel: Kernel) -> tuple[dict[str, Any], ...]:
    foretold = _foretold(outcome, path, kernel)
    return tuple(
        {**module.to_dict(), "check": foretold.get(module.name)} for module in outcome.modules
    )


def _foretold(outcome: Run, path: Path, kernel: Kernel) -> dict[str, dict[str, Any]]:
    """What loadcheck says to each module by its name; nothing of a source that did not get so far."""
    from lkm.prediction import check_path

    if all(m.verdict.value in (Verdict.BUILD_FAILED, "excluded") for m in outcome.modules):
        return {}
    try:
        checked = check_path(path, kernel)
    except UsageError:
        return {}
    keys = ("verdict", "errno", "findings")
    reports = [each.report.to_dict() for each in checked]
    return {report["name"]: {key: report[key] for key in keys} for report in reports}


def _diagnostics(outcome: Run, path: Path, kernel: Kernel) -> Sequence[dict[str, Any]]:
    from lkm.kbuild.diagnostics import parse
    from lkm.matrix.excerpt import with_excerpts

    if outcome.error:
        found = parse(outcome.error.diagnostics)
    else:
        found = outcome.build.diagnostics if outcome.build else ()
    directory = path if path.is_dir() else path.parent
    return with_excerpts(found, (directory, *(host for host, _ in kernel.binds)))


def _may_be_tested(state: str) -> bool:
    return state not in (Verdict.BUILD_FAILED.value, "excluded")


def _tested(result: CellResult, path: Path) -> CellResult:
    from lkm.matrix import suite

    tests = suite.run(path, result.kernel)
    if not tests["failed"] or result.state != Verdict.OK.value:
        return replace(result, tests=tests)
    first = tests["failures"][0]
    # The plugin names a kernel that was asked for in the test's id: test_it[6.1], test_it[6.1-3].
    test = first["test"].replace(f"[{result.kernel}]", "").replace(f"{result.kernel}-", "")
    reason = f"{tests['failed']} of {tests['tests']} tests: {test}: {first['message']}"
    return replace(result, tests=tests, state=State.TESTS_FAILED.value, reason=reason)


def _relative(result: CellResult, path: Path, kernel: Kernel) -> CellResult:
    """Without this computer's directories: the same cell elsewhere says the same."""
    directory = path if path.is_dir() else path.parent
    prefixes = [f"{directory}/", *(f"{host}/" for host, _ in kernel.binds)]
    longest = sorted(prefixes, key=len, reverse=True)
    texts = {name: _stripped(getattr(result, name), longest) for name in _TEXTS}
    return replace(result, **texts)


_TEXTS = ("reason", "hint", "modules", "diagnostics", "tests")


def _stripped(value: Any, prefixes: Sequence[str]) -> Any:
    if isinstance(value, str):
        for prefix in prefixes:
            value = value.replace(prefix, "")
        return value
    if isinstance(value, dict):
        return {key: _stripped(each, prefixes) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_stripped(each, prefixes) for each in value)
    return value
