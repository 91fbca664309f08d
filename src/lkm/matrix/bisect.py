"""The first kernel on which a source fails, in the fewest cells, by what is known and by halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lkm.errors import HostError, LkmError, MachineError, UsageError
from lkm.matrix.outcome import CellResult, State
from lkm.verdict import Verdict

__all__ = ["Border", "Step", "bisect", "passes"]

SCHEMA = 1


class Step(StrEnum):
    """Up to where a source has to come to be good."""

    BUILD = "build"
    LOAD = "load"
    TEST = "test"


@dataclass(frozen=True)
class Border:
    """Where a source stops being good, in the order of `kernels` between the two ends.

    `unjudged` lie between `good` and `bad` and say nothing: excluded, or without a verdict. `odd` are kernels
    whose known results contradict a single border. `ran` counts the cells that ran for it.
    """

    step: Step
    kernels: tuple[str, ...]
    good: CellResult
    bad: CellResult
    unjudged: tuple[CellResult, ...] = ()
    odd: tuple[CellResult, ...] = ()
    ran: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The document that `lkm bisect --json` prints."""
        return {
            "schema": SCHEMA,
            "step": self.step.value,
            "kernels": list(self.kernels),
            "good": self.good.to_dict(),
            "bad": self.bad.to_dict(),
            "unjudged": [result.to_dict() for result in self.unjudged],
            "odd": [result.to_dict() for result in self.odd],
            "ran": self.ran,
        }


def passes(result: CellResult, step: Step) -> bool | None:
    """Whether the source came through `step`; None where the result does not say."""
    if not result.is_verdict or result.state == "excluded":
        return None
    if step is Step.BUILD:
        return result.state != Verdict.BUILD_FAILED
    if step is Step.LOAD:
        return result.state in (Verdict.OK, State.TESTS_FAILED)
    return result.state == Verdict.OK


Probe = Callable[[str], CellResult]


def bisect(
    kernels: Sequence[str],
    step: Step,
    known: Callable[[str], CellResult | None],
    run: Probe,
) -> Border:
    """The border between `kernels[0]`, which has to be good, and `kernels[-1]`, which has to be bad.

    `known` gives results that cost nothing, `run` the others. Raises UsageError where an end is not what it has
    to be or is excluded; where the infrastructure gave it no verdict, HostError or MachineError as it did.
    """
    search = _Search(tuple(kernels), step, known, run)
    search.check_ends()
    low, high = search.narrowed()
    while middle := search.middle(low, high):
        good = passes(search.at(middle), step)
        if good is not None:  # else the next look passes it over
            low, high = (middle, high) if good else (low, middle)
    return search.border(low, high)


class _Search:
    """What is known so far, by the kernel's place in the list."""

    def __init__(
        self,
        kernels: tuple[str, ...],
        step: Step,
        known: Callable[[str], CellResult | None],
        run: Probe,
    ) -> None:
        self._kernels = kernels
        self._step = step
        self._run = run
        self._ran = 0
        found = ((index, known(kernel)) for index, kernel in enumerate(kernels))
        self._results = {index: result for index, result in found if result}

    def at(self, index: int) -> CellResult:
        if index not in self._results:
            self._results[index] = self._run(self._kernels[index])
            self._ran += 1
        return self._results[index]

    def check_ends(self) -> None:
        if len(self._kernels) < 2:
            raise UsageError(
                f"between {self._kernels[0] if self._kernels else 'no kernel'} and itself there is no border",
                hint="lkm bisect SOURCE --kernels 5.10..",
            )
        ends = self.at(0), self.at(len(self._kernels) - 1)
        said = tuple(passes(end, self._step) for end in ends)
        if said != (True, False):
            raise _wrong_ends(ends, said, self._step)

    def narrowed(self) -> tuple[int, int]:
        """The closest good and bad of what is known at the start: up to the first that is bad."""
        judged = sorted((i, passes(r, self._step)) for i, r in self._results.items())
        high = next(index for index, good in judged if good is False)
        low = max(index for index, good in judged if good and index < high)
        return low, high

    def middle(self, low: int, high: int) -> int | None:
        """The kernel nearest to the middle whose result could say something; None where there is none."""
        wanted = (low + high) / 2
        open_ones = [i for i in range(low + 1, high) if self._may_say(i)]
        return min(open_ones, key=lambda index: abs(index - wanted), default=None)

    def _may_say(self, index: int) -> bool:
        return index not in self._results or passes(self._results[index], self._step) is not None

    def border(self, low: int, high: int) -> Border:
        odd = [
            result
            for index, result in sorted(self._results.items())
            if (good := passes(result, self._step)) is not None and good != (index <= low)
        ]
        between = tuple(self._results[index] for index in range(low + 1, high))
        return Border(
            self._step, self._kernels, self.at(low), self.at(high), between, tuple(odd), self._ran
        )


def _wrong_ends(ends: Sequence[CellResult], said: Sequence[bool | None], step: Step) -> LkmError:
    evidence = [
        f"{end.kernel}: {end.state}{f': {end.reason}' if end.reason else ''}" for end in ends
    ]
    first, last = (end.kernel for end in ends)
    if None in said:
        return _no_end(ends[said.index(None)], step, evidence)
    if said == (False, True):
        summary = f"it is the other way round: {first} is bad and {last} is good"
        return UsageError(summary, evidence=evidence, hint=f"--good {last} --bad {first}")
    both = "good" if said[0] else "bad"
    return UsageError(
        f"no border: {first} and {last} are both {both} at step {step}",
        evidence=evidence,
        hint="lkm matrix SOURCE shows what every kernel says",
    )


def _no_end(end: CellResult, step: Step, evidence: Sequence[str]) -> LkmError:
    """The error for an end that says nothing, of the kind that stopped it there."""
    summary = f"{end.kernel} is no end: it has no verdict on {step}"
    code = end.error["exit_code"] if end.error else UsageError.exit_code
    if code == HostError.exit_code:
        return HostError(summary, evidence=evidence, hint=end.hint)
    if code == MachineError.exit_code:
        return MachineError(
            summary, stage="bisect", console_tail="\n".join(evidence), hint=end.hint
        )
    return UsageError(summary, evidence=evidence, hint="choose another with --good or --bad")
