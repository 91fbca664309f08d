"""The tests of params.ko: pytest examples/params"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lkm

Insmod = Callable[..., lkm.Module]

VALUES: dict[str, Any] = {
    "p_byte": 255,
    "p_short": -32768,
    "p_ushort": 65535,
    "p_int": -41,
    "p_uint": 4294967295,
    "p_long": -(2**63),
    "p_ulong": 2**64 - 1,
    "p_ullong": 2**64 - 1,
    "p_hexint": 0xDEADBEEF,
    "p_charp": "eight",
    "p_bool": True,
    "p_invbool": True,
    "n_readonly": 7,
    "s_readonly": "fifteen bytes..",
    "a_readonly": [9, 8, 7, 6],
    "a_writable": [1],
    "a_strings": ["x", "y", "z"],
    "a_rootonly": [True, False],
}


def test_has_defaults(insmod: Insmod) -> None:
    params = insmod().params
    assert params["p_charp"].read() == "seven"
    assert params["a_readonly"].read() == [1, 2, 3, 4]


def test_reads_back_what_it_is_loaded_with(insmod: Insmod) -> None:
    params = insmod(**VALUES).params
    assert {name: params[name].read() for name in VALUES} == VALUES


@pytest.mark.parametrize("name", [name for name in VALUES if "readonly" not in name])
def test_reads_back_what_is_written(insmod: Insmod, name: str) -> None:
    parameter = insmod().params[name]
    parameter.write(VALUES[name])
    assert parameter.read() == VALUES[name]


def test_modes_are_the_declared_ones(insmod: Insmod) -> None:
    params = insmod().params
    modes = {name: params[name].mode for name in params if name.startswith("n_")}
    assert modes == {"n_readonly": 0o444, "n_writable": 0o644, "n_rootonly": 0o600}


def test_what_is_hidden_is_not_in_sysfs(insmod: Insmod) -> None:
    assert not [name for name in insmod(p_hidden=1).params if name.endswith("hidden")]


def test_a_user_may_read_and_not_write(vm: lkm.VM, insmod: Insmod) -> None:
    insmod(p_int=5)
    path = "/sys/module/params/parameters"
    assert vm.run(["cat", f"{path}/p_int"], user=1000).text == "5\n"
    assert vm.run(["cat", f"{path}/p_rootonly"], user=1000).returncode == 1
    assert vm.run(["sh", "-c", f"echo 6 > {path}/p_int"], user=1000).returncode == 1


@pytest.mark.parametrize(("name", "value"), [("p_byte", 256), ("p_uint", -1), ("p_bool", "maybe")])
def test_a_bad_write_changes_nothing(insmod: Insmod, name: str, value: Any) -> None:
    parameter = insmod().params[name]
    before = parameter.text
    with pytest.raises(lkm.UsageError, match=name):
        parameter.write(value)
    assert parameter.text == before
