from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.indexed_kernel import indexed

from lkm import requests
from lkm.kernels.kernel import Kernel
from lkm.log import Record
from lkm.targets import Target, needs_of


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return indexed(tmp_path)


def target(name: str, *aliases: str, depends: tuple[str, ...] = ()) -> Target:
    facts = SimpleNamespace(name=name, aliases=aliases, depends=depends)
    path = Path(f"/{name}.ko")
    return Target(cast(Any, facts), path, path)


def test_what_the_kernel_ran_is_what_it_asks_for() -> None:
    said = [
        "demo: here",
        "modprobe -q -- crypto-x(aes)",
        "modprobe -q -- crypto-x(aes)",
        "modprobe -q -- ",
    ]
    records = [Record(seq, 1.0, "info", 1, text) for seq, text in enumerate(said)]
    assert requests.asked(records) == ("crypto-x(aes)",)
    assert "crypto-x(aes)" in (requests.hint(records) or "")
    assert requests.hint(records[:1]) is None


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["virtio-net"], ("virtio_net",)),
        (["helper", "helper"], ("helper",)),
        (["fs-helper"], ("helper",)),
        (["block-major-7-0"], ("helper",)),
        (["virtio", "nothing"], ()),
        (["user"], ()),
        (["demo"], ()),
    ],
    ids=["kernel", "sibling", "alias", "glob", "none", "a sibling that needs it", "itself"],
)
def test_a_sibling_answers_before_the_kernel(
    kernel: Kernel,
    names: list[str],
    meant: tuple[str, ...],
) -> None:
    demo = target("demo")
    beside = [
        demo,
        target("helper", "fs_helper", "block-major-7-*"),
        target("user", depends=("demo",)),
    ]
    assert requests.with_requests(demo, beside, kernel, names).requests == meant


def test_requests_come_with_what_they_need_and_may_be_refused(kernel: Kernel) -> None:
    demo = replace(target("demo"), requests=("helper", "virtio_net"))
    helper = target("helper", depends=("failover", "library"))
    found = needs_of(demo, [demo, helper, target("library")], kernel)
    assert (found.own, found.others) == ((), ())
    assert [path.name for path in found.soft] == [
        "failover.ko.xz", "library.ko", "helper.ko", "failover.ko.xz", "net-failover.ko.xz", "virtio_net.ko.xz",
    ]  # fmt: skip
