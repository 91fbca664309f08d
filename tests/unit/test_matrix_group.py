"""The same reason on many kernels is one line, with the kernels in words."""

from __future__ import annotations

import pytest
from tests.unit.matrix_cells import KERNELS, result

from lkm.matrix.group import grouped, normal, short_names, tidy, where

OLD, SIX, TWELVE, NEW = KERNELS


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (  # gcc 12 and gcc 14 of the same source
            "demo.c:12:7: error: implicit declaration of function \u2018strlcpy\u2019; did you mean"
            " \u2018strscpy\u2019? [-Werror=implicit-function-declaration]",
            "demo.c:14:9: error: implicit declaration of function \u2018strlcpy\u2019"
            " [-Wimplicit-function-declaration]",
        ),
        (  # gcc 14 and gcc 15
            "a.c:3:1: error: too many arguments to function \u2018class_create\u2019",
            "a.c:3:1: error: too many arguments to function \u2018class_create\u2019; expected 1, have 2",
        ),
        (
            "BUG: unable to handle page fault for address: ffffffffc0a01234",
            "BUG: unable to handle page fault for address: 0000000000000008",
        ),
        ("WARNING at /tmp/a/demo.c:12", "WARNING at demo.c:17"),
    ],
)
def test_reasons_that_differ_in_places_numbers_and_advice_are_one(one: str, other: str) -> None:
    assert normal(one) == normal(other)


def test_reasons_about_other_things_are_two() -> None:
    assert normal("a.c:1:1: error: \u2018x\u2019 undeclared") != normal(
        "a.c:1:1: error: \u2018y\u2019 undeclared"
    )
    assert normal("insmod: ENODEV: it") != normal("insmod: EBUSY: it")


def test_people_see_neither_the_place_nor_the_flag_nor_what_gcc_guesses() -> None:
    said = "demo.c:12:7: error: unknown type name \u2018timeval\u2019 [-Werror]"
    assert tidy(said) == "unknown type name 'timeval'"
    guess = (
        "error: implicit declaration of \u2018strlcpy\u2019; did you mean \u2018strncpy\u2019? [-W]"
    )
    assert tidy(guess) == "implicit declaration of 'strlcpy'"
    assert tidy('ERROR: modpost: "x" [demo.ko] undefined!') == '"x" [demo.ko] undefined!'


@pytest.mark.parametrize(
    ("some", "words"),
    [
        (KERNELS, "all"),
        ((TWELVE, NEW), "6.12 and newer"),
        ((NEW,), "7.3, the newest"),
        ((OLD, SIX), "6.1 and older"),
        ((OLD,), "5.10, the oldest"),
        ((SIX, TWELVE), "6.1 to 6.12"),
        ((SIX,), "6.1 only"),
        ((OLD, TWELVE), "5.10, 6.12"),
    ],
)
def test_kernels_in_words(some: tuple[str, ...], words: str) -> None:
    assert where(some, KERNELS, KERNELS) == words


def test_a_kernel_without_a_verdict_is_no_gap() -> None:
    (group,) = (
        group
        for group in grouped(
            [
                result(OLD),
                result(SIX, "build-failed", "x"),
                result(TWELVE, "error", "disk"),
                result(NEW, "build-failed", "x"),
            ],
            KERNELS,
        )
        if group.state == "build-failed"
    )
    assert group.kernels == (SIX, NEW)
    assert group.where == "6.1 and newer"


def test_a_reason_that_names_its_kernel_is_the_same_on_others() -> None:
    cells = [result(k, "excluded", f"BUILD_EXCLUSIVE_KERNEL does not match {k}") for k in KERNELS]
    (group,) = grouped(cells, KERNELS)
    assert (group.reason, group.where) == (
        "BUILD_EXCLUSIVE_KERNEL does not match this kernel",
        "all",
    )


def test_a_path_with_a_kernels_name_stays_one() -> None:
    reason = f"no space left for /c/work/demo/{KERNELS[0]}-f2b1/tree"
    (group,) = grouped([result(KERNELS[0], "error", reason)], KERNELS)
    assert group.reason == reason


def test_sources_that_fail_alike_are_one_group() -> None:
    cells = [result(k, "build-failed", "same", source=s) for s in ("a", "b") for k in (TWELVE, NEW)]
    cells += [result(k, source=s) for s in ("a", "b") for k in (OLD, SIX)]
    (group,) = grouped(cells, KERNELS)
    assert (group.rows, group.where) == (("a", "b"), "6.12 and newer")


@pytest.mark.parametrize(
    ("kernels", "names"),
    [
        (("6.1.0-50-amd64", "6.1.0-50-cloud-amd64", NEW), ["6.1.0-50", "6.1.0-50-cloud", "7.3"]),
        (("6.1.0-47-cloud-amd64", SIX, NEW), ["6.1.0-47", "6.1.0-50", "7.3"]),
        (
            ("7.2.6+deb13-cloud-amd64", "7.2.12+deb13-cloud-amd64", "7.3-cloud-amd64", NEW),
            ["7.2.6", "7.2.12", "7.3", "7.3.4"],
        ),
        (
            ("7.2.12+deb13-cloud-amd64", "7.2.12+deb14-cloud-amd64"),
            ["7.2.12+deb13", "7.2.12+deb14"],
        ),
        (
            ("7.2.6+deb13-amd64", "7.2.6+deb13-rt-amd64", "7.2.9+deb13-amd64"),
            ["7.2.6", "7.2.6-rt", "7.2.9"],
        ),
        (("host", "tree:/src/linux-6.12", TWELVE), ["host", "tree:/src/linux-6.12", "6.12"]),
        (("debug", TWELVE), ["debug", "6.12"]),
    ],
)  # fmt: skip
def test_a_short_name_has_what_tells_kernels_apart(
    kernels: tuple[str, ...], names: list[str]
) -> None:
    assert list(short_names(kernels).values()) == names


def test_what_a_source_does_not_want_is_told_last() -> None:
    cells = [result(kernel, "excluded", "BUILD_EXCLUSIVE_KERNEL") for kernel in (OLD, SIX, TWELVE)]
    cells.append(result(NEW, "build-failed", "demo.c:1:1: error: no"))
    assert [group.state for group in grouped(cells, KERNELS)] == ["build-failed", "excluded"]
