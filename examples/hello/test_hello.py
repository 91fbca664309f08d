"""The tests of hello.ko: pytest examples/hello"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lkm

Insmod = Callable[..., lkm.Module]


def test_says_so_when_it_is_loaded_and_when_it_is_unloaded(insmod: Insmod) -> None:
    hello = insmod()
    assert hello.log.of("hello").text == "hello: init"
    hello.rmmod()
    assert hello.log.of("hello").text == "hello: init\nhello: exit"


def test_can_be_loaded_again(insmod: Insmod) -> None:
    for _ in range(3):
        insmod().rmmod()


def test_is_one_of_the_loaded_modules(vm: lkm.VM, insmod: Insmod) -> None:
    with insmod():
        assert vm.modules()[0].name == "hello"
    assert "hello" not in [module.name for module in vm.modules()]


def test_cannot_be_loaded_twice_at_once(insmod: Insmod) -> None:
    insmod()
    with pytest.raises(lkm.LoadError, match="EEXIST"):
        insmod()


def test_takes_no_parameters(insmod: Insmod) -> None:
    with pytest.raises(lkm.UsageError, match="colour"):
        insmod(colour="red")
