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
    whose known results contradict a single border. `untried` are taken to be like those on their side of it.
    `ran` counts the cells that ran for it.
    """

    step: Step
    kernels: tuple[str, ...]
    good: CellResult
    bad: CellResult
    unjudged: tuple[CellResult, ...] = ()
    odd: tuple[CellResult, ...] = ()
    untried: tuple[str, ...] = ()
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
            "untried": list(self.untried),
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
    *,
    given: tuple[bool, bool] = (True, True),
) -> Border:
    """The border between `kernels[0]`, where it has to be good, and `kernels[-1]`, where it has to be bad.

    `known` gives results that cost nothing, `run` the others. An end runs only where no known result makes up
    for it. `given` says which ends somebody chose: in place of another that is excluded the next kernel counts.

    Raises UsageError where an end is not what it has to be or is excluded; where the infrastructure gave it no
    verdict, HostError or MachineError as it did.
    """
    search = _Search(tuple(kernels), step, known, run, given)
    low, high = search.begin()
    while middle := search.middle(low, high):
        good = search.said(middle)
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
        given: tuple[bool, bool],
    ) -> None:
        self._kernels = kernels
        self._step = step
        self._run = run
        self._given = given
        self._ran = 0
        found = ((index, known(kernel)) for index, kernel in enumerate(kernels))
        self._results = {index: result for index, result in found if result}

    def said(self, index: int) -> bool | None:
        """Whether the source is good there, which is tried where it is not known."""
        if index not in self._results:
            self._results[index] = self._run(self._kernels[index])
            self._ran += 1
        return passes(self._results[index], self._step)

    def begin(self) -> tuple[int, int]:
        """A good kernel and a bad one after it, as close as is known; ends that have to be tried for it are."""
        if len(self._kernels) < 2:
            raise UsageError(
                f"between {self._kernels[0] if self._kernels else 'no kernel'} and itself there is no border",
                hint="lkm bisect SOURCE --kernels 5.10..",
            )
        if self._contradicts_the_caller():
            raise self._no_border()
        known = set(self._judged().values())
        if found := self._closest():
            return found
        if known != {True}:
            self._end(0)
        if known != {False}:
            self._end(-1)
        if found := self._closest():
            return found
        raise self._no_border()

    def _judged(self) -> dict[int, bool]:
        said = ((at, passes(self._results[at], self._step)) for at in sorted(self._results))
        return {at: good for at, good in said if good is not None}

    def _contradicts_the_caller(self) -> bool:
        judged, last = self._judged(), len(self._kernels) - 1
        good, bad = self._given
        return (good and judged.get(0) is False) or (bad and judged.get(last) is True)

    def _closest(self) -> tuple[int, int] | None:
        """The first known bad kernel with a known good one before it, and the newest of those."""
        low = None
        for index, good in self._judged().items():
            if good:
                low = index
            elif low is not None:
                return low, index
        return None

    def _end(self, side: int) -> int:
        """Try an end, 0 or -1; past those that are excluded, where nobody chose it."""
        order = list(range(len(self._kernels)))[:: 1 if side == 0 else -1]
        if not self._given[side]:
            for index in order:
                self.said(index)
                if self._results[index].state != "excluded":
                    return index
        self.said(order[0])
        return order[0]

    def _no_border(self) -> LkmError:
        first, last = self._end(0), self._end(-1)
        ends = self._results[first], self._results[last]
        return _wrong_ends(ends, (self.said(first), self.said(last)), self._step)

    def middle(self, low: int, high: int) -> int | None:
        """The kernel nearest to the middle whose result could say something; None where there is none."""
        wanted = (low + high) / 2
        open_ones = [i for i in range(low + 1, high) if self._may_say(i)]
        return min(open_ones, key=lambda index: abs(index - wanted), default=None)

    def _may_say(self, index: int) -> bool:
        return index not in self._results or passes(self._results[index], self._step) is not None

    def border(self, low: int, high: int) -> Border:
        odd = [self._results[at] for at, good in self._judged().items() if good != (at <= low)]
        return Border(
            self._step,
            self._kernels,
            self._results[low],
            self._results[high],
            unjudged=tuple(self._results[index] for index in range(low + 1, high)),
            odd=tuple(odd),
            untried=tuple(k for at, k in enumerate(self._kernels) if at not in self._results),
            ran=self._ran,
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
        return UsageError(
            summary, evidence=evidence, hint=f"lkm bisect SOURCE --good {last} --bad {first}"
        )
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
