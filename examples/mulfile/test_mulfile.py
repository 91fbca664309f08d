"""The tests of mymodule.ko: pytest examples/mulfile"""

from __future__ import annotations

from collections.abc import Callable

import lkm

Insmod = Callable[..., lkm.Module]


def test_is_one_module_of_all_its_files(build: Callable[[], lkm.Objects]) -> None:
    assert list(build()) == ["mymodule"]


def test_init_calls_the_function_of_another_file(insmod: Insmod) -> None:
    log = insmod("mymodule").log
    assert log.text.endswith("my_module: init\nmymodule_sub: called")


def test_exit_is_that_of_a_third_file(insmod: Insmod) -> None:
    module = insmod("mymodule")
    module.rmmod()
    assert module.log[-1].text == "my_module: exit"
