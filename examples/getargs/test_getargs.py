"""The tests of getargs.ko: pytest examples/getargs"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lkm

Insmod = Callable[..., lkm.Module]


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ({}, "intparam\t= 0"),
        ({"intparam": 123}, "intparam\t= 123"),
        ({"arg": -456}, "intparam2\t= -456"),
        ({"file": "/etc/a file"}, "file\t= /etc/a file"),
        ({"filepath": "/b"}, "file2\t= /b"),
        ({"array": [12, 23, 34]}, "array\t= [ 12 23 34 0 0 0 0 0]"),
        ({"array": range(8)}, "array\t= [ 0 1 2 3 4 5 6 7]"),
    ],
)
def test_prints_what_it_is_given(insmod: Insmod, given: dict[str, Any], printed: str) -> None:
    assert f"=> {printed}" in insmod(**given).log


def test_prints_a_file_only_when_it_is_given_one(insmod: Insmod) -> None:
    assert "=> file\t" not in insmod().log


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"intparam": 1 << 31}, "intparam"),
        ({"filepath": "x" * 128}, "filepath"),
        ({"array": range(9)}, "array"),
        ({"array": [1, "x"]}, "'x'"),
        ({"intparm": 1}, "intparam"),
    ],
)
def test_a_value_that_the_kernel_would_refuse_is_named(
    insmod: Insmod, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(lkm.UsageError, match=said):
        insmod(**given)


def test_shows_no_parameter_in_sysfs(insmod: Insmod) -> None:
    assert not insmod(intparam=1).params
