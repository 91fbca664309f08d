"""What a test has to be watched for after its last unload, by what it loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from lkm.api.history import History
from lkm.ko.object import KernelObject
from lkm.machine import Area, Needs
from lkm.targets import Target
from lkm.twin import Step


class Decoder:
    def add(self, _: object) -> None: ...


def target(*imports: str) -> Target:
    facts = KernelObject("drv", "x86_64", 64, imports=imports)
    return Target(facts, Path("drv.ko"), Path("drv.ko"))


def history(*steps: Step) -> History:
    none = cast("Any", None)
    return History(cast("Any", Decoder()), none, none, steps)


def loaded(*imports: str, needs: Needs | None = None) -> History:
    made = history()
    if needs:
        made.needed(needs)
    with made.loading(target(*imports), cast("Any", None)):
        pass
    return made


@pytest.mark.parametrize(
    ("imports", "later", "looks"),
    [
        (("_printk", "kfree"), False, Area(0)),
        (("_printk", "mod_timer"), True, Area(0)),
        (("proc_create",), False, Area.PROC),
        (("queue_work_on", "misc_register"), True, Area.MISC),
    ],
)
def test_a_module_is_watched_for_what_it_imports(
    imports: tuple[str, ...], later: bool, looks: Area
) -> None:
    made = loaded(*imports)
    assert (made.fires_later, made.looks) == (later, looks)


def test_what_else_there_is_may_come_later() -> None:
    with_needs = loaded("_printk", needs=Needs(own=(Path("videodev.ko"),)))
    assert (with_needs.fires_later, with_needs.looks) == (True, Area(0))
    after_programs = loaded("_printk")
    after_programs.has_run = True
    assert after_programs.fires_later
    assert history(target("_printk")).fires_later
