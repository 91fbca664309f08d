"""`lkm_interpose` is found again without a look into the store of builds, and only where it is the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lkm import kbuild
from lkm.interpose import tracker
from lkm.interpose.rewrite import GATE
from lkm.kbuild import builder
from lkm.kernels.kernel import Kernel, Toolchain

TOOLCHAIN = Toolchain(suite="trixie", root=Path("/root"), cc="gcc-14", identity="gcc")


@pytest.fixture
def kernel() -> Kernel:
    facts = dict.fromkeys(Kernel.__dataclass_fields__)
    facts |= {
        "release": "6.12.9-cloud", "provider": "debian", "identity": "k", "toolchain": TOOLCHAIN,
    }  # fmt: skip
    return Kernel(**cast("Any", facts))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The kernels that it was built for; each build gives other bytes."""
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    done: list[str] = []

    def build(source: object, kernel: Kernel, **_: object) -> object:
        done.append(kernel.identity)
        made = tmp_path / f"{len(done)}.ko"
        made.write_bytes(f"object {len(done)}".encode())
        exports = [SimpleNamespace(name=GATE, crc=len(done))]
        facts = SimpleNamespace(exports=exports)
        return SimpleNamespace(
            objects={tracker.NAME: SimpleNamespace(stripped=made, kernel_object=facts)}
        )

    monkeypatch.setattr(kbuild, "build", build)
    return done


def test_it_is_built_once(kernel: Kernel, builds: list[str]) -> None:
    first = tracker.tracker_for(kernel)
    assert tracker.tracker_for(kernel) == first
    assert builds == ["k"]
    assert first.image.read_bytes() == b"object 1"
    assert first.gate_crc == 1
    assert first.image.is_relative_to(first.rootfs.directories[0])


def test_another_kernel_compiler_or_source_is_built_for(
    kernel: Kernel, builds: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = tracker.tracker_for(kernel)
    tracker.tracker_for(replace(kernel, identity="other"))
    tracker.tracker_for(replace(kernel, toolchain=replace(TOOLCHAIN, identity="other")))
    source = shutil.copytree(tracker._SOURCE, tmp_path / "module")
    monkeypatch.setattr(tracker, "_SOURCE", source)
    (source / "calls.c").write_text("/* another */\n")
    last = tracker.tracker_for(kernel)
    assert builds == ["k", "other", "k", "k"]
    assert last.rootfs.identity != first.rootfs.identity


def test_what_was_removed_is_built_again(kernel: Kernel, builds: list[str]) -> None:
    tracker.tracker_for(kernel).image.unlink()
    assert tracker.tracker_for(kernel).image.is_file()
    assert len(builds) == 2


def test_a_tree_that_may_have_changed_is_looked_at_each_time(
    kernel: Kernel, builds: list[str]
) -> None:
    tree = replace(kernel, provider="tree")
    tracker.tracker_for(tree)
    tracker.tracker_for(tree)
    assert len(builds) == 2


def test_it_goes_with_the_builds_version() -> None:
    assert builder.VERSION == tracker.BUILT_BY
