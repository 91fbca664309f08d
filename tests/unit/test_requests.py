from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.indexed_kernel import indexed

from lkm import requests
from lkm.kernels.kernel import Kernel
from lkm.targets import Target, needs_of
from lkm.verdict import ModuleRun, Verdict


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return indexed(tmp_path)


def target(name: str, *aliases: str, depends: tuple[str, ...] = ()) -> Target:
    facts = SimpleNamespace(name=name, aliases=aliases, depends=depends)
    path = Path(f"/{name}.ko")
    return Target(cast(Any, facts), path, path)


def test_what_is_asked_for_in_vain_is_told_but_not_all_of_it(kernel: Kernel) -> None:
    assert requests.in_vain(["virtio-console", "crypto-x(aes)"], kernel) == ("crypto-x(aes)",)
    assert requests.hint(["a", "b"]) == "the kernel asked modprobe for a, b, which was not there"
    assert requests.hint([]) is None
    assert requests.some(list("abcdef")) == "a, b, c, d and 2 more"


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


def test_it_is_tried_until_nothing_new_is_asked_for(kernel: Kernel) -> None:
    asks = {(): ("helper",), ("helper",): ("virtio-net", "x"), ("helper", "virtio_net"): ("x",)}
    seen = []

    def attempt(of: Target) -> ModuleRun:
        seen.append(of.requests)
        return ModuleRun(of.name, Verdict.LOAD_FAILED, asked=asks[of.requests])

    demo = target("demo")
    last, tried = requests.satisfied(demo, [demo, target("helper")], kernel, attempt)
    assert seen == list(asks)
    assert last.requests == tried.requested == ("helper", "virtio_net")
    assert tried.hint == "the kernel asked modprobe for x, which was not there"
