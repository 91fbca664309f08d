"""insmod, rmmod and the parameters' files on a machine, with what went wrong as an exception."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lkm import requests
from lkm.end import End
from lkm.errors import KernelProblem, LoadError, ModuleFailure, UnloadError, UsageError
from lkm.machine import Machine, Outcome, ParameterFile
from lkm.verdict import Judgement, Stages, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lkm.problems import Problem
    from lkm.targets import Target

    Decode = Callable[[Sequence[Problem]], Sequence[Problem]]
    """What traces problems to lines of source."""

__all__ = ["held", "insmod", "read_parameters", "rmmod", "write_parameter"]


def insmod(
    machine: Machine, target: Target, arguments: str = "", *, decode: Decode = tuple
) -> Outcome:
    """Load a module. Raises LoadError with its errno, KernelProblem where the kernel reported one.

    `decode` traces problems to lines of source (a Decoder).
    """
    from lkm.ko import read_image

    outcome = machine.load(read_image(target.image), arguments)
    judged = judge(target.name, Stages(outcome))
    if judged.verdict is Verdict.OK:
        return outcome
    if judged.verdict is not Verdict.LOAD_FAILED:
        _problem(judged, outcome, decode)
    hint = judged.hint
    if outcome.asked and not hint:
        hint = f"{requests.hint(outcome.asked)}: {machine.typed('modprobe', outcome.asked[0])}"
    # An init may return EEXIST, too.
    if outcome.errno == errno.EEXIST and _is_loaded(machine, target.name):
        first = machine.typed("rmmod", target.name)
        hint = f"it is loaded already: {first} first, or use the one that is there"
    raise LoadError(target.path.name, outcome.errno, log=_said(outcome), hint=hint)


def rmmod(machine: Machine, name: str, *, decode: Decode = tuple) -> Outcome:
    """Unload a module. Raises UnloadError that says who holds it, KernelProblem."""
    module = Path(name).name.partition(".ko")[0].replace("-", "_")
    outcome = machine.unload(module)
    judged = judge(module, Stages(_LOADED, unload=outcome))
    if outcome.end is End.DONE and outcome.errno:
        raise UnloadError(
            module, outcome.errno, log=_said(outcome), hint=held(machine, module, outcome.errno)
        )
    if judged.verdict is not Verdict.OK:
        _problem(judged, outcome, decode)
    return outcome


_LOADED = Outcome(End.DONE, 0, (), 0.0)
"""What came before: the module is there."""


def read_parameters(
    machine: Machine, module: str, name: str | None = None
) -> dict[str, ParameterFile]:
    """The parameters of a loaded module that sysfs shows, or one of them. Raises UsageError."""
    files = machine.parameters(module)
    if name is None:
        if not files:
            _require_loaded(machine, module)
        return files
    wanted = name.replace("-", "_")
    for parameter, file in files.items():
        if parameter.replace("-", "_") == wanted:
            if file.value is None:
                raise UsageError(
                    f"the parameter {name} of {module} is not readable: mode {file.mode:04o}"
                )
            return {parameter: file}
    _require_loaded(machine, module)
    known = ", ".join(files) or "none"
    raise UsageError(f"{module} shows no parameter {name!r} in sysfs", hint=f"it shows: {known}")


def write_parameter(machine: Machine, module: str, name: str, value: str) -> None:
    """Write a parameter of a loaded module. Raises UsageError with the kernel's errno."""
    path = f"/sys/module/{module}/parameters/{name}"
    try:
        machine.write(path, os.fsencode(value) + b"\0", flags=os.O_WRONLY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            read_parameters(machine, module, name)
        raise UsageError(
            f"{module} does not take {name}={value}: {error.strerror}",
            hint=f"see what it has: {machine.typed('param', module)}",
        ) from error


def _require_loaded(machine: Machine, module: str) -> None:
    if not _is_loaded(machine, module):
        raise UsageError(f"{module} is not loaded", hint=machine.typed("lsmod"))


def _is_loaded(machine: Machine, module: str) -> bool:
    return any(loaded.name == module for loaded in machine.modules())


def held(machine: Machine, module: str, number: int) -> str | None:
    """Why delete_module(2) gave that errno: who holds the module, and what to do; None where nobody knows."""
    if number == errno.ENOENT:
        return f"it is not loaded: {machine.typed('lsmod')}"
    if number not in (errno.EBUSY, errno.EWOULDBLOCK):
        return None
    for loaded in machine.modules():
        if loaded.name == module:
            if loaded.permanent:
                return f"it has no exit function, so it can never be unloaded: {machine.way_out}"
            if loaded.used_by:
                first = machine.typed("rmmod", *loaded.used_by)
                return f"{', '.join(loaded.used_by)} use it: {first} first"
            return f"its reference count is {loaded.refcount}: {_users(machine, module)}"
    return None


def _users(machine: Machine, module: str) -> str:
    from lkm.openfiles import holders

    found = [str(each) for each in dict.fromkeys(holders(machine, module))]
    if not found:
        return "something has it open, or it holds itself"
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


_SHOWN = 3


def _said(outcome: Outcome) -> list[str]:
    return [record.text for record in outcome.records]


def _problem(judged: Judgement, outcome: Outcome, decode: Decode) -> NoReturn:
    if judged.problems:
        from lkm.problems.text import evidence

        first, *_ = decode(judged.problems)
        hung = outcome.end is End.HUNG
        why = [judged.reason] if hung and judged.reason else []
        raise KernelProblem(first, log=_said(outcome), traced=[*why, *evidence(first)])
    hung = outcome.end is End.HUNG
    lines = outcome.stacks.splitlines() if hung else _said(outcome)
    raise ModuleFailure(judged.reason or str(judged.verdict), evidence=lines)
