"""`bisect` finds the border in the fewest cells, and says when there is none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.unit.matrix_cells import result

from lkm.errors import HostError, LkmError, MachineError, UsageError
from lkm.matrix.bisect import Border, Step, bisect, passes
from lkm.matrix.outcome import CellResult, of_error

MANY = tuple(f"6.{number}.0-cloud-amd64" for number in range(16))
TRIED: list[str] = []


def find(
    states: Mapping[int, str],
    known: tuple[int, ...] = (),
    step: Step = Step.LOAD,
    given: tuple[bool, bool] = (True, True),
) -> Border:
    """The border of a source that has these states from each number on."""

    def truth(kernel: str) -> CellResult:
        at = MANY.index(kernel)
        state = states[max(number for number in states if number <= at)]
        return result(kernel, state, None if state == "ok" else "why")

    def run(kernel: str) -> CellResult:
        TRIED.append(kernel)
        return truth(kernel)

    TRIED.clear()
    return bisect(
        MANY, step, lambda k: truth(k) if MANY.index(k) in known else None, run, given=given
    )


@pytest.mark.parametrize("first", range(1, 16))
def test_every_border_is_found_in_six_cells(first: int) -> None:
    border = find({0: "ok", first: "build-failed"})
    assert (border.good.kernel, border.bad.kernel) == (MANY[first - 1], MANY[first])
    assert border.ran == len(TRIED) == len(set(TRIED)) <= 6


def test_what_is_known_is_used_first() -> None:
    border = find({0: "ok", 9: "problem"}, known=(0, 8, 9, 15))
    assert (border.bad.kernel, border.ran) == (MANY[9], 0)


@pytest.mark.parametrize(
    ("known", "ran"),
    [
        ((8, 9), 0),  # both sides of it: no end is asked
        ((8,), 1 + 3),  # 15, 11, 10, 9
        ((9,), 1 + 4),  # 0, 4, 6, 7, 8
        ((2, 4, 12), 4),  # 8, 10, 9, and the 11 that is nearest to the middle
    ],
)
def test_an_end_is_tried_only_where_nothing_known_makes_up_for_it(
    known: tuple[int, ...], ran: int
) -> None:
    border = find({0: "ok", 9: "problem"}, known)
    assert border.bad.kernel == MANY[9]
    assert border.ran <= ran
    assert border.untried == tuple(
        kernel for at, kernel in enumerate(MANY) if kernel not in TRIED and at not in known
    )


def test_an_end_that_nobody_chose_may_be_excluded() -> None:
    states = {0: "excluded", 3: "ok", 10: "load-failed", 14: "excluded"}
    border = find(states, given=(False, False))
    assert (border.good.kernel, border.bad.kernel) == (MANY[9], MANY[10])
    with pytest.raises(UsageError, match=rf"{MANY[0]} is no end"):
        find(states, given=(True, False))


def test_the_first_border_that_is_known_counts_where_nobody_chose_the_ends() -> None:
    states = {0: "ok", 4: "hung", 8: "ok"}
    border = find(states, known=tuple(range(16)), given=(False, False))
    assert (border.bad.kernel, border.odd[0].kernel) == (MANY[4], MANY[8])
    with pytest.raises(UsageError, match="both good"):
        find(states, known=tuple(range(16)))


@pytest.mark.parametrize("silent", ["excluded", "error", "bad-input"])
def test_kernels_without_a_verdict_are_passed_over_and_named(silent: str) -> None:
    border = find({0: "ok", 6: silent, 8: "ok", 9: silent, 11: "load-failed"})
    assert (border.good.kernel, border.bad.kernel) == (MANY[8], MANY[11])
    assert [each.kernel for each in border.unjudged] == [MANY[9], MANY[10]]


def test_results_that_contradict_one_border_are_named() -> None:
    border = find({0: "ok", 4: "hung", 6: "ok", 10: "hung"}, known=(5, 7))
    assert border.bad.kernel in (MANY[4], MANY[5])
    assert [each.kernel for each in border.odd] == [MANY[7]]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({0: "ok"}, "no border: 6.0.0-cloud-amd64 and 6.15.0-cloud-amd64 are both good"),
        ({0: "panic"}, "both bad"),
        ({0: "panic", 8: "ok"}, "the other way round"),
        ({0: "bad-input", 1: "panic"}, "6.0.0-cloud-amd64 is no end"),
        ({0: "ok", 15: "excluded"}, "6.15.0-cloud-amd64 is no end"),
    ],
)
def test_ends_that_are_none_are_wrong_usage(states: dict[int, str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refusal:
        find(states)
    assert len(TRIED) == 2
    assert refusal.value.hint
    assert len(refusal.value.evidence) == 2


@pytest.mark.parametrize("error", [HostError("no space"), MachineError("stopped", stage="boot")])
def test_an_end_that_the_infrastructure_gave_no_verdict_is_its_fault(error: LkmError) -> None:
    state, told = of_error(error)

    def run(kernel: str) -> CellResult:
        return result(kernel, state, told["summary"], error=told, hint="df -h")

    with pytest.raises(LkmError, match="is no end") as refusal:
        bisect(MANY, Step.LOAD, lambda kernel: None, run)
    assert (type(refusal.value), refusal.value.hint) == (type(error), "df -h")
    assert f"{MANY[0]}: error: {error.summary}" in refusal.value.evidence


def test_one_kernel_has_no_border() -> None:
    with pytest.raises(UsageError, match="no border"):
        bisect(MANY[:1], Step.BUILD, lambda kernel: None, result)


@pytest.mark.parametrize(
    ("state", "build", "load", "test"),
    [
        ("ok", True, True, True),
        ("tests-failed", True, True, False),
        ("problem", True, False, False),
        ("build-failed", False, False, False),
        ("excluded", None, None, None),
        ("error", None, None, None),
    ],
)
def test_each_step_asks_for_more(
    state: str, build: bool | None, load: bool | None, test: bool | None
) -> None:
    said = [passes(result(MANY[0], state), step) for step in Step]
    assert said == [build, load, test]
