"""Kernels that the store does not own: Debian's files, put together as a built tree and as a running host."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.kernels import host, store, toolchain, tree
from lkm.kernels.kernel import Kernel
from lkm.run import Rig, Run, run
from lkm.vm.fresh import Fresh

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES = {"hello": "hello", "mulfile": "mymodule", "getargs": "getargs", "params": "params"}
"""The module of each sample directory."""


@pytest.fixture(scope="module")
def packaged() -> Kernel:
    return store.get("6.1")


@pytest.fixture(scope="module")
def built(packaged: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree as it looks after `make bzImage modules modules_install INSTALL_MOD_PATH=TREE`."""
    path = tmp_path_factory.mktemp("tree") / "linux"
    merge_headers(packaged, path)
    image = path / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(packaged.image, image)
    assert packaged.modules_dir is not None
    modules = path / "lib/modules" / packaged.release
    modules.parent.mkdir(parents=True)
    modules.symlink_to(packaged.modules_dir)
    yield path
    shutil.rmtree(path)


def merge_headers(kernel: Kernel, path: Path) -> None:
    """Debian's headers are split over three directories, with links and a Makefile for each other."""
    ours = kernel.build_dir_on_host
    home = ours.parents[2]
    (common,) = ours.parent.glob("linux-headers-*-common")
    (kbuild,) = (home / "usr/lib").glob("linux-kbuild-*")

    def left_out(directory: str, names: list[str]) -> list[str]:
        return [n for n in names if n == ".kernelvariables" or Path(directory, n).is_symlink()]

    for part in (common, ours, kbuild):
        shutil.copytree(part, path, symlinks=True, dirs_exist_ok=True, ignore=left_out)
    shutil.copy(common / "Makefile", path / "Makefile")
    # Debian's release is in .kernelvariables; a tree's own is where its builds find it.
    (path / "include/config/kernel.release").write_text(f"{kernel.release}\n")


@pytest.fixture
def own_cache(packaged: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with the toolchains of the real one: the packaged kernel of that release is in peace."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "roots").symlink_to(toolchain.roots_dir())
    monkeypatch.setenv("LKM_CACHE_DIR", str(cache))
    yield cache
    shutil.rmtree(cache)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("build")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=ignored))


def run_fresh(source: Path, kernel: Kernel) -> Run:
    with Fresh(kernel) as fresh:
        return run(source, kernel, Rig(lambda _: fresh.machine()))


def verdicts(outcome: Run) -> dict[str, str]:
    return {module.name: str(module.verdict) for module in outcome.modules}


@pytest.mark.usefixtures("own_cache")
def test_the_samples_run_on_a_tree(built: Path, packaged: Kernel, examples: Path) -> None:
    kernel = tree.kernel(built)
    assert kernel.toolchain.identity == packaged.toolchain.identity
    assert kernel.toolchain.cc == packaged.toolchain.cc
    for directory, module in SAMPLES.items():
        outcome = run_fresh(examples / directory, kernel)
        assert verdicts(outcome) == {module: "ok"}
        assert outcome.build is not None
        assert outcome.build.diagnostics == ()
        assert outcome.build.release == packaged.release


def test_the_command_line_takes_a_tree_by_any_path(
    built: Path, packaged: Kernel, examples: Path, tmp_path: Path, own_cache: Path, lkm: Any
) -> None:
    link = tmp_path / "link"
    link.symlink_to(built)
    relative = os.path.relpath(built)
    seen = []
    for name in (f"tree:{link}", f"tree:{relative}", str(built)):
        done = lkm("run", "--json", "-k", name, str(examples / "hello"))
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        seen.append((document["kernel"], document["modules"][0]["verdict"]))
    assert seen == [(packaged.release, "ok")] * 3
    assert len(list((own_cache / "snapshots").glob("[!.]*/ram"))) == 1


def test_a_new_build_of_the_kernel_is_booted_and_built_for_anew(
    built: Path, examples: Path, own_cache: Path
) -> None:
    before = tree.kernel(built)
    assert verdicts(run_fresh(examples / "hello", before)) == {"hello": "ok"}
    snapshots = own_cache / "snapshots"
    (first,) = {path.parent.name for path in snapshots.glob("[!.]*/ram")}
    os.utime(built / "arch/x86/boot/bzImage")
    after = tree.kernel(built)
    assert after.identity != before.identity
    outcome = run_fresh(examples / "hello", after)
    assert verdicts(outcome) == {"hello": "ok"}
    assert outcome.build is not None
    assert not outcome.build.cached
    assert len({path.parent.name for path in snapshots.glob("[!.]*/ram")} - {first}) == 1


@pytest.mark.usefixtures("own_cache")
def test_a_module_may_stand_in_the_tree(built: Path, examples: Path) -> None:
    inside = Path(shutil.copytree(examples / "hello", built / "drivers/hello"))
    try:
        assert verdicts(run_fresh(inside, tree.kernel(built))) == {"hello": "ok"}
    finally:
        shutil.rmtree(inside)


@pytest.mark.usefixtures("own_cache")
def test_the_running_kernel_s_headers_and_image_are_a_kernel(
    built: Path, packaged: Kernel, examples: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    assert packaged.modules_dir is not None
    modules = root / "lib/modules" / packaged.release
    modules.mkdir(parents=True)
    for entry in packaged.modules_dir.iterdir():
        if entry.name not in ("build", "source"):
            (modules / entry.name).symlink_to(entry)
    (modules / "build").symlink_to(built)
    (root / "boot").mkdir()
    (root / f"boot/vmlinuz-{packaged.release}").symlink_to(packaged.image)
    kernel = host.kernel(root=root, release=packaged.release)
    assert kernel.provider == "host"
    assert verdicts(run_fresh(examples / "params", kernel)) == {"params": "ok"}
