"""From what a kernel did to a verdict. Pure: nothing here runs or waits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lkm.end import End
from lkm.errors import errno_name
from lkm.log import Record
from lkm.problems import Problem, ProblemKind, find, in_module, stack, to_dict

if TYPE_CHECKING:
    from lkm import ktap
    from lkm.machine import Outcome, Taint

__all__ = [
    "NMI",
    "Judgement",
    "ModuleRun",
    "Stages",
    "Timings",
    "Verdict",
    "judge",
    "reason_of_refusal",
]


class Verdict(StrEnum):
    """What became of a module."""

    OK = "ok"
    EXCLUDED = "excluded"
    BUILD_FAILED = "build-failed"
    LOAD_FAILED = "load-failed"
    UNLOAD_FAILED = "unload-failed"
    PROBLEM = "problem"
    HUNG = "hung"
    PANIC = "panic"


@dataclass(frozen=True)
class Timings:
    """Seconds of wall time that each stage took; None for one that did not happen."""

    build: float | None = None
    restore: float | None = None
    load: float | None = None
    unload: float | None = None
    settle: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """The timings, rounded to a tenth of a millisecond."""
        stages = {
            "build": self.build,
            "restore": self.restore,
            "load": self.load,
            "unload": self.unload,
            "settle": self.settle,
        }
        return {name: None if s is None else round(s, 4) for name, s in stages.items()}


@dataclass(frozen=True)
class ModuleRun:
    """One module in one machine: what was seen, and the verdict.

    `reason` is one line, None where the verdict is `ok`. `errno` is the name of what the refused system
    call gave. `params` are the values in sysfs after init, where root can read them. `log` is what the
    kernel said in the module's life. `lost` counts records that the log's ring could not hold. `taint` is
    None on a guest. `kunit` are the KUnit suites that ran. `at_once` says that the log and the problems are
    of a second machine, on which the module was unloaded at once after its load, since nothing else went wrong.
    `requested` are the modules that were there because the kernel asks modprobe for them (request_module()),
    `asked` the names and aliases that it asked for in vain.
    """

    name: str
    verdict: Verdict
    reason: str | None = None
    errno: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    log: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    timings: Timings = Timings()
    lost: int = 0
    hint: str | None = None
    taint: Taint | None = None
    kunit: tuple[ktap.Result, ...] = ()
    at_once: bool = False
    requested: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The module's part of `lkm run --json`."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "errno": self.errno,
            "params": self.params,
            "log": [
                {"seq": r.seq, "time": round(r.time, 6), "level": r.level, "text": r.text}
                for r in self.log
            ],
            "log_lost": self.lost,
            "problems": [to_dict(problem) for problem in self.problems],
            "kunit": _suites(self.kunit),
            "at_once": self.at_once,
            "requested": list(self.requested),
            "asked": list(self.asked),
            "taint": asdict(self.taint) if self.taint else None,
            "timings": self.timings.to_dict(),
        }


def _suites(suites: Sequence[ktap.Result]) -> list[dict[str, Any]]:
    if not suites:
        return []
    from lkm import ktap

    return [ktap.to_dict(suite) for suite in suites]


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason and its evidence."""

    verdict: Verdict
    reason: str | None = None
    errno: str | None = None
    problems: tuple[Problem, ...] = ()
    hint: str | None = None


@dataclass(frozen=True)
class Stages:
    """What was done with a module, in this order; None for what it did not come to."""

    load: Outcome
    reading: Outcome | None = None
    after_load: Outcome | None = None
    unload: Outcome | None = None
    after_unload: Outcome | None = None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Those that there were."""
        each = (self.load, self.reading, self.after_load, self.unload, self.after_unload)
        return tuple(outcome for outcome in each if outcome)

    @property
    def records(self) -> tuple[Record, ...]:
        """What the kernel said in all of them."""
        return tuple(record for outcome in self.outcomes for record in outcome.records)

    @property
    def asked(self) -> tuple[str, ...]:
        """What the kernel ran modprobe for in all of them, each once."""
        return tuple(dict.fromkeys(name for outcome in self.outcomes for name in outcome.asked))

    @property
    def last(self) -> str:
        """The last of them, as a reason names it."""
        if self.after_unload:
            return "the time after its exit"
        if self.unload:
            return "exit"
        if self.after_load:
            return "the time after its init"
        return "parameter callback" if self.reading else "init"


def judge(
    name: str,
    stages: Stages,
    *,
    has_exit: bool = True,
    found: Sequence[Problem] = (),
    held: str | None = None,
) -> Judgement:
    """The verdict on what was done with a module.

    What the kernel reported outweighs what the system calls returned: a module that loads with a WARNING
    has a problem. `found` are the problems that somebody else than the kernel's log tells of, `held` is who
    holds a module that is not unloaded.
    """
    problems = (*find(stages.records), *found)
    load, unload, last = stages.load, stages.unload, stages.outcomes[-1]
    if last.end is End.HUNG:
        where = hanging(name, stages, problems)
        reason = _hung(name, stages.last, last, where)
        return Judgement(Verdict.HUNG, reason, None, (*_not_ours(problems), where))
    if last.end is End.PANIC:
        summary = _worst(problems).summary if problems else _went_down(name, stages.last, last)
        return Judgement(Verdict.PANIC, summary, None, problems)
    if last.end is End.GONE:
        return Judgement(Verdict.PANIC, f"{name}'s {stages.last}: {last.how}", None, problems)
    refused = next((one for one in stages.outcomes if one.errno), last)
    if problems:
        return Judgement(Verdict.PROBLEM, _worst(problems).summary, _errno(refused), problems)
    if last.end is End.KILLED:
        return Judgement(
            Verdict.PROBLEM, f"the kernel killed the process in {name}'s {stages.last}"
        )
    if load.errno:
        reason, hint = reason_of_refusal(name, load)
        return Judgement(Verdict.LOAD_FAILED, reason, _errno(load), hint=hint)
    if unload and unload.errno:
        reason = f"rmmod: {errno_name(unload.errno)}"
        if not has_exit:
            reason += ": the module has no exit function, so it can never be unloaded"
        elif held:
            reason += f": {held}"
        return Judgement(Verdict.UNLOAD_FAILED, reason, _errno(unload))
    return Judgement(Verdict.OK)


def reason_of_refusal(name: str, load: Outcome) -> tuple[str, str | None]:
    """Why insmod was refused, in one line, and a hint where one is known."""
    symbol = errno_name(load.errno)
    said = _kernels_words(name, load.records)
    for pattern, hint in _HINTS:
        if re.search(pattern, said):
            return f"insmod: {symbol}: {said}", hint
    if said:
        return f"insmod: {symbol}: {said}", None
    if symbol == "EKEYREJECTED":
        return f"insmod: {symbol}: its content is not what was signed", "lkm sign FILE.ko"
    if symbol in ("ENOEXEC", "ENOKEY"):
        return f"insmod: {symbol}: the kernel does not take this file for a module of its own", None
    # The loader gives EINVAL, too, and says why each time (kernel/module/main.c, version.c, kernel/params.c).
    reason = f"insmod: {symbol}: {name}'s init returned it"
    return reason, _NO_DEVICE if symbol in ("ENODEV", "ENXIO") else None


_NO_DEVICE = "init gives this where its device is missing: this machine may have none of that kind"
_HINTS = (
    (
        r"is rejected$",
        "sign it with a key that the kernel knows: lkm sign FILE.ko --key PEM --cert X509",
    ),
    (r"version magic", "build it for this kernel: lkm run SOURCE --kernel K"),
    (
        r"Unknown symbol|disagrees about version",
        "load the module that exports it first, or build for this kernel",
    ),
    (
        r"invalid module format|invalid ELF|exec format",
        "build it for this kernel: lkm run SOURCE --kernel K",
    ),
)
_REFUSALS = re.compile(
    r"Unknown symbol|version magic|disagrees about|no symbol version|exports duplicate symbol"
    r"|[Ii]nvalid module|[Ii]nvalid ELF|module is already loaded|overflow|Required key|Skipping invalid"
    r"|unknown parameter|parameter .* (expects|requires)|invalid for parameter|too large for parameter"
    r"|GPL-incompatible|namespace|is rejected$"
)


def _kernels_words(name: str, records: Sequence[Record]) -> str:
    """The line in which the module loader itself says why (kernel/module/main.c, kernel/params.c)."""
    for record in records:
        if _REFUSALS.search(record.text):
            return record.text.removeprefix(f"{name}: ")
    return ""


def _errno(outcome: Outcome) -> str | None:
    return errno_name(outcome.errno) if outcome.errno and outcome.end is End.DONE else None


_HOW = {
    "guest-reset": ("the guest reset itself", ": a restart, or a triple fault"),
    "guest-shutdown": ("the guest powered itself off", ""),
    "guest-panic": ("the guest panicked", ""),
}
"""What a guest did by QEMU's word for it, and what that can mean."""


def _went_down(name: str, verb: str, outcome: Outcome) -> str:
    """What became of a guest whose kernel said nothing."""
    what, means = _HOW.get(outcome.how, ("the guest went down", ""))
    return f"{what} in {name}'s {verb}{means}"


def _hung(name: str, verb: str, outcome: Outcome, where: Problem) -> str:
    said = [f"{name}'s {verb} did not return within {outcome.seconds:.0f} s"]
    if where.function:
        place = where.function.partition("+")[0]
        said.append(f"it is in {place} [{where.module}]" if where.module else f"it is in {place}")
    return "; ".join([*said, outcome.remains] if outcome.remains else said)


def hanging(name: str, stages: Stages, problems: Sequence[Problem]) -> Problem:
    """Where that is which does not return: the stack of what sleeps, or where the processors are.

    A kernel that spins was made to say it, by an NMI that it takes for a reason to panic.
    """
    last = stages.outcomes[-1]
    at = len(stages.records)
    summary = f"{name}'s {stages.last} did not return"
    frames = stack(last.stacks)
    if not any(frame.function for frame in frames):
        for problem in problems:
            if NMI in problem.summary:
                return replace(problem, kind=ProblemKind.HUNG, summary=summary, records=(at, at))
    fault = in_module(frames) or (frames[0] if frames else None)
    return Problem(
        kind=ProblemKind.HUNG,
        summary=summary,
        function=fault.function if fault else None,
        module=fault.module if fault else None,
        file=None,
        line=None,
        offset=fault.offset if fault else None,
        size=fault.size if fault else None,
        address=fault.address if fault else None,
        process=None,
        taint="",
        trace=frames,
        records=(at, at),
    )


NMI = "NMI: Not continuing"
"""What the panic says by which the host has a kernel that spins tell where."""


def _not_ours(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Without the panic that the host's own NMI made in order to see where the kernel spins."""
    return tuple(problem for problem in problems if NMI not in problem.summary)


def _worst(problems: Sequence[Problem]) -> Problem:
    """The one to name: the first that is not the panic which only follows from it."""
    return next((p for p in problems if p.kind is not ProblemKind.PANIC), problems[0])
