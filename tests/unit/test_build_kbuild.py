"""The command line of a build: where the source is shown, with which limits, with which variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.arch import X86_64
from lkm.errors import UsageError
from lkm.kbuild import limits
from lkm.kbuild import make as kbuild
from lkm.kbuild.limits import Limits
from lkm.kernels import Kernel, Toolchain
from lkm.source import ModuleSource

BUILD_DIR = "/usr/src/linux-headers-6.12"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    root = tmp_path / "root"
    for name in ("usr", "etc", "home", "tmp"):
        (root / name).mkdir(parents=True)
    headers = tmp_path / "headers"
    (headers / "include").mkdir(parents=True)
    (headers / "include/module.h").touch()
    return Kernel(
        release="6.12",
        arch=X86_64,
        provider="debian",
        image=tmp_path / "vmlinuz",
        build_dir=BUILD_DIR,
        binds=((headers, BUILD_DIR),),
        config=headers / ".config",
        toolchain=Toolchain("trixie", root, "gcc-14", "id"),
        identity="kernel",
    )


def placed(kernel: Kernel, directory: str, tree: Path = Path("/tree")) -> kbuild.Place:
    return kbuild.place(ModuleSource(Path(directory)), kernel, tree)


@pytest.mark.parametrize(
    "directory", ["/home/u/mod", "/tmp/größe", "/work/a+b@c~1", "/data/x.y/z-1"]
)
def test_a_source_is_shown_at_its_own_path(kernel: Kernel, directory: str) -> None:
    assert placed(kernel, directory).inside == directory


@pytest.mark.parametrize(
    "directory",
    ["/home/u/my mod", "/home/u/a:b", "/home/u/a$b", "/home/u/#", "/home/a,b", "/usr/src/mod",
     "/etc/mod", "/", "/proc/1/cwd", os.fsdecode(b"/home/\xff")],
)  # fmt: skip
def test_a_path_that_make_or_the_sandbox_cannot_have_is_replaced_and_mapped_back(
    kernel: Kernel, directory: str
) -> None:
    place = placed(kernel, directory)
    assert place.inside == "/lkm/source"
    assert place.to_host("/lkm/source/sub/a.c") == f"{directory}/sub/a.c"


def test_paths_that_a_build_prints_open_on_the_host(kernel: Kernel, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/a.c").touch()
    place = placed(kernel, "/home/u/mod", tree)
    assert place.locate("/home/u/mod/b.c") == "/home/u/mod/b.c"
    assert place.locate("sub/a.c") == "/home/u/mod/sub/a.c"
    assert place.locate("./sub/../sub/a.c") == "/home/u/mod/sub/a.c"
    assert place.locate("./include/module.h") == str(tmp_path / "headers/include/module.h")
    assert place.locate(f"{BUILD_DIR}/include/module.h") == str(
        tmp_path / "headers/include/module.h"
    )
    assert place.locate("/tmp/ccXYZ.s") == "/tmp/ccXYZ.s"
    assert place.locate("nowhere.c") == "nowhere.c"


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ((), ("KBUILD_MODPOST_WARN=",)),
        (("W=1",), ("KBUILD_MODPOST_WARN=", "W=1")),
        (("-DA", "-DB=1"), ("KBUILD_MODPOST_WARN=", "KCFLAGS=-DA -DB=1")),
        (("-DS=$x y",), ("KBUILD_MODPOST_WARN=", "KCFLAGS='-DS=$$x y'")),
        (("KCFLAGS=-O1", "-g"), ("KBUILD_MODPOST_WARN=", "KCFLAGS=-O1 -g")),
        (("KBUILD_MODPOST_WARN=1",), ("KBUILD_MODPOST_WARN=1",)),
    ],
)
def test_flags_become_make_variables(flags: tuple[str, ...], variables: tuple[str, ...]) -> None:
    assert kbuild.make_arguments(flags) == variables


@pytest.mark.parametrize("flag", ["M=/etc", "O=/tmp", "SHELL=/bin/x", "clean", "", "1=2"])
def test_other_flags_are_refused(flag: str) -> None:
    with pytest.raises(UsageError, match="cannot build with"):
        kbuild.make_arguments([flag])


def test_only_the_work_tree_is_writable_and_there_is_no_network(kernel: Kernel) -> None:
    line = kbuild.argv(
        placed(kernel, "/home/u/mod"), ["W=1"], Limits(processes=10, memory=1, file=2)
    )
    writable = [line[i + 1 : i + 3] for i, word in enumerate(line) if word == "--bind"]
    assert writable == [["/tree", "/home/u/mod"]]
    assert "--unshare-all" in line
    assert "--share-net" not in line
    assert line[:6] == ["prlimit", "--nproc=20", "--as=1", "--fsize=2", "--core=0", "--"]
    make = line[line.index("make") :]
    assert make[make.index("-C") :] == ["-C", BUILD_DIR, "M=/home/u/mod", "W=1", "modules"]


def test_another_kernel_than_debian_s_is_told_its_compiler(kernel: Kernel) -> None:
    from dataclasses import replace

    line = kbuild.argv(placed(replace(kernel, provider="tree"), "/home/u/mod"), [])
    assert line[-3:] == ["ARCH=x86", "CC=gcc-14", "modules"]


def test_the_git_work_tree_is_readable_but_for_its_git_directory(
    kernel: Kernel, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    (repo / "mod").mkdir()
    place = kbuild.place(ModuleSource(repo / "mod"), kernel, tmp_path / "w/tree")
    line = kbuild.argv(place, [])
    shown = {line[i + 2]: line[i + 1] for i, word in enumerate(line) if word == "--ro-bind"}
    assert shown[str(repo)] == str(repo)
    assert not any(Path(shown[str(repo / ".git")]).iterdir())
    outer, inner = line.index(str(repo)), line.index(str(place.tree))
    assert outer < inner


def test_descendants_are_counted() -> None:
    assert os.getpid() in limits._descendants(os.getppid())
    assert os.getpid() not in limits._descendants(os.getpid())
