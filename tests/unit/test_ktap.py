from __future__ import annotations

from pathlib import Path

import pytest

from lkm import ktap
from lkm.ktap import Status
from lkm.log import Record, parse_kmsg
from lkm.problems import ProblemKind

DATA = Path(__file__).parents[1] / "data" / "ktap"
CAPTURED = parse_kmsg((DATA / "6.12" / "kunit_suite.kmsg").read_bytes())


def log(*texts: str) -> list[Record]:
    return [Record(number, float(number), "info", 0, text) for number, text in enumerate(texts)]


def test_the_suites_of_a_captured_log_case_by_case() -> None:
    mixed, good = ktap.find(CAPTURED)
    assert (mixed.name, mixed.status, good.name, good.status) == ("mixed", "failed", "good", "ok")
    assert [(case.name, case.status.value, case.reason) for case in mixed.cases] == [
        ("adds", "ok", ""),
        ("is_wrong", "failed", ""),
        ("is_skipped", "skipped", "no such hardware"),
        ("is_a_square", "failed", ""),
    ]
    assert [(case.name, case.status.value) for case in mixed.cases[3].cases] == [
        ("param-0", "ok"),
        ("param-1", "ok"),
        ("param-2", "failed"),
    ]


def test_a_failed_case_has_its_line_and_what_it_said() -> None:
    wrong = ktap.find(CAPTURED)[0].cases[1]
    assert (wrong.file, wrong.line) == ("/build/kunit_suite.c", 16)
    assert "Expected sum == 5, but" in wrong.said
    assert "in this arithmetic" in wrong.said
    first, last = wrong.records
    said = "\n".join(record.text for record in CAPTURED[first:last])
    assert "EXPECTATION FAILED" in said
    assert "ok 1 adds" not in said
    assert said.endswith("not ok 2 is_wrong")


def test_each_failed_case_is_a_problem_and_what_went_well_is_none() -> None:
    wrong, square = ktap.problems(ktap.find(CAPTURED), "kunit_suite")
    assert (wrong.kind, wrong.module, wrong.function) == (
        ProblemKind.KUNIT,
        "kunit_suite",
        "is_wrong",
    )
    assert (
        wrong.summary
        == "KUnit: mixed.is_wrong failed: Expected sum == 5, but sum == 4 (0x4) in this arithmetic"
    )
    assert (square.function, square.line) == ("is_a_square", 32)
    assert square.summary.startswith(
        "KUnit: mixed.is_a_square.param-2 failed: Expected *value != 5"
    )


def test_a_log_without_a_suite_has_none_whatever_it_says() -> None:
    lines = ("ok 1 everything", "not ok 2 this", "    not ok 1 that", "# foo: bar", "    1..4")
    assert ktap.find(log(*lines)) == ()


def test_a_line_at_another_depth_or_of_another_name_does_not_end_a_suite() -> None:
    lines = (
        "    # Subtest: one", "    1..1", "ok 1 stranger", "        ok 1 too_deep", "    ok 1 a",
        "not ok 1 one",
    )  # fmt: skip
    (suite,) = ktap.find(log(*lines))
    assert suite.status is Status.FAILED
    assert [case.name for case in suite.cases] == ["a"]


def test_what_others_log_meanwhile_is_not_taken_for_the_tests_words() -> None:
    lines = (
        "    # Subtest: one", "driver: hello", "    # a: seen by the test", "usb 1-1: new device", "    ok 1 a",
        "ok 1 one",
    )  # fmt: skip
    (suite,) = ktap.find(log(*lines))
    assert suite.cases[0].said == ("seen by the test",)


@pytest.mark.parametrize("kept", range(1, len(CAPTURED)))
def test_a_log_that_ends_early_has_no_suite_that_is_ok_without_its_result(kept: int) -> None:
    for suite in ktap.find(CAPTURED[:kept]):
        printed = any(record.text.endswith(f"ok 1 {suite.name}") for record in CAPTURED[:kept])
        printed |= any(record.text == f"ok 2 {suite.name}" for record in CAPTURED[:kept])
        assert printed is (suite.status is not Status.UNFINISHED)


def test_a_suite_that_stops_in_the_middle_is_a_problem() -> None:
    (problem,) = ktap.problems(ktap.find(log("    # Subtest: one", "    1..2", "    ok 1 a")), "m")
    assert problem.summary == "KUnit: one did not finish"


def test_a_suite_that_could_not_begin_says_why() -> None:
    lines = ("    # Subtest: one", "    # one: failed to initialize (-12)", "not ok 1 one")
    (problem,) = ktap.problems(ktap.find(log(*lines)), "m")
    assert problem.summary == "KUnit: one failed: failed to initialize (-12)"


def test_the_form_of_before_5_18() -> None:
    lines = (
        "    # Subtest: old", "    1..2", "    # a: initializing", "    ok 1 - a",
        "    ok 2 - b # SKIP not here", "ok 1 - old",
    )  # fmt: skip
    (suite,) = ktap.find(log(*lines))
    assert suite.status is Status.OK
    assert [(case.name, case.status.value) for case in suite.cases] == [
        ("a", "ok"),
        ("b", "skipped"),
    ]
    assert suite.cases[0].said == ()
