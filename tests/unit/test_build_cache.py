"""build() around a make that is played: caching, publishing, and what goes wrong on disk."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lkm import kbuild as build
from lkm import source as sources
from lkm.arch import X86_64
from lkm.errors import BuildError, HostError, UsageError
from lkm.kbuild import artifacts, failure, workdir
from lkm.kbuild import make as kbuild
from lkm.kbuild.goals import misnamed
from lkm.kbuild.make import Outcome
from lkm.kernels import Kernel, Toolchain


class Facts:
    """Stands in for lkm.ko.KernelObject."""

    def __init__(self, size: int) -> None:
        self.size = size

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size}


class Make:
    """Plays make: builds one module out of a.c, and counts how often it ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.lines: tuple[str, ...] = ("  CC [M]  a.o", "a.c:1:1: warning: w")
        self.returncode = 0
        self.stopped: str | None = None
        self.order = "/m/a-b.o\n"
        self.reads: list[Path] = []

    def __call__(self, place: kbuild.Place, arguments: object, log: Path, *_: object) -> Outcome:
        self.runs += 1
        log.write_text("\n".join(self.lines))
        tree = place.tree
        (tree / ".lkm/stripped").mkdir(parents=True, exist_ok=True)
        (tree / "modules.order").write_text(self.order.replace("/m", place.inside))
        (tree / "Module.symvers").write_text("")
        for line in self.order.splitlines():
            name = Path(line).stem
            (tree / f"{name}.ko").write_text((tree / "a.c").read_text() + " with debug info")
            (tree / f".lkm/stripped/{name}.ko").write_text((tree / "a.c").read_text())
        (tree / ".a.o.cmd").write_text(
            "savedcmd_a.o := gcc -c -o a.o a.c\n\nsource_a.o := a.c\n\ndeps_a.o := \\\n"
            + "".join(f"  {path} \\\n" for path in self.reads)
        )
        return Outcome(("bwrap", "make"), self.returncode, self.lines, 0.1, self.stopped)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    played = Make()
    ko = types.ModuleType("lkm.ko")
    ko.read = lambda path: Facts(path.stat().st_size)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lkm.ko", ko)
    monkeypatch.setattr("lkm.ko", ko, raising=False)
    monkeypatch.setattr(kbuild, "run", played)
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    return played


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    root = tmp_path / "root"
    build_dir = root / "usr/src/linux"
    build_dir.mkdir(parents=True)
    (build_dir / "Makefile").touch()
    (build_dir / "Module.symvers").touch()
    (build_dir / "module.h").touch()
    return Kernel(
        "6.12", X86_64, "debian", root, "/usr/src/linux", (), root, Toolchain("s", root, "cc", "t"), "k"
    )  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> sources.ModuleSource:
    directory = tmp_path / "mod"
    directory.mkdir()
    (directory / "Kbuild").write_text("obj-m := a-b.o\n")
    (directory / "a.c").write_text("version 1")
    return sources.find(directory)


def test_a_build_gives_objects_and_publishes_them(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    done = build.build(source, kernel)
    target = source.directory / "build/6.12"
    built = done.objects["a_b"]
    assert built.path == target / "a-b.ko"
    assert built.path.read_text() == "version 1 with debug info"
    assert built.stripped.read_text() == "version 1"
    assert built.facts == {"size": built.size} == {"size": len("version 1 with debug info")}
    assert sorted(path.name for path in target.iterdir()) == [
        "Module.symvers", "a-b.ko", "build.log", "compile_commands.json",
    ]  # fmt: skip
    assert (source.directory / "build/.gitignore").read_text().splitlines()[1:] == ["*"]
    assert done.output == make.lines
    assert not done.cached


def test_unchanged_input_runs_nothing_and_tells_the_warnings_again(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    first = build.build(source, kernel)
    again = build.build(source, kernel)
    assert (make.runs, again.cached) == (1, True)
    assert again.diagnostics == first.diagnostics
    assert again.diagnostics[0].text == "w"
    assert again.objects == first.objects


@pytest.mark.parametrize("what", ["content", "mode", "new file", "kernel", "toolchain", "flags"])
def test_any_change_of_input_builds_again(
    make: Make, kernel: Kernel, source: sources.ModuleSource, what: str
) -> None:
    build.build(source, kernel)
    flags: tuple[str, ...] = ()
    match what:
        case "content":
            (source.directory / "a.c").write_text("version 2")
        case "mode":
            (source.directory / "a.c").chmod(0o755)
        case "new file":
            (source.directory / "b.h").touch()
        case "kernel":
            kernel = replace(kernel, identity="k2")
        case "toolchain":
            kernel = replace(kernel, toolchain=replace(kernel.toolchain, identity="t2"))
        case "flags":
            flags = ("-DX",)
    assert not build.build(source, kernel, extra_flags=flags).cached
    assert make.runs == 2


def test_a_touched_file_is_no_change(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    build.build(source, kernel)
    os.utime(source.directory / "a.c")
    assert build.build(source, kernel).cached


def test_an_earlier_content_is_still_known(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    build.build(source, kernel)
    (source.directory / "a.c").write_text("version 2")
    build.build(source, kernel)
    (source.directory / "a.c").write_text("version 1")
    back = build.build(source, kernel)
    assert back.cached
    assert back.objects["a_b"].path.read_text() == "version 1 with debug info"


@pytest.mark.parametrize("provider", ["tree", "host"])
def test_a_changed_header_of_a_living_tree_builds_again(
    make: Make, kernel: Kernel, source: sources.ModuleSource, provider: str
) -> None:
    kernel = replace(kernel, provider=provider)
    make.reads = [Path("/usr/src/linux/module.h")]
    build.build(source, kernel)
    assert build.build(source, kernel).cached
    kernel.to_host("/usr/src/linux/module.h").write_text("changed")
    assert not build.build(source, kernel).cached


def test_a_changed_header_of_the_git_work_tree_builds_again(
    make: Make, kernel: Kernel, source: sources.ModuleSource, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    shared = tmp_path / "shared.h"
    shared.touch()
    make.reads = [shared]
    build.build(source, kernel)
    assert build.build(source, kernel).cached
    shared.write_text("changed")
    assert not build.build(source, kernel).cached


@pytest.mark.parametrize("damage", ["remove", "change", "remove all"])
def test_published_files_come_back_from_the_store(
    make: Make, kernel: Kernel, source: sources.ModuleSource, damage: str
) -> None:
    path = build.build(source, kernel).objects["a_b"].path
    if damage == "change":
        path.write_text("somebody else's")
    elif damage == "remove":
        path.unlink()
    else:
        workdir.remove_tree(source.directory / "build")
    assert build.build(source, kernel).cached
    assert path.read_text() == "version 1 with debug info"


@pytest.mark.parametrize("damage", ["truncated", "gone", "no manifest", "manifest cut"])
def test_a_damaged_store_is_not_believed(
    make: Make, kernel: Kernel, source: sources.ModuleSource, damage: str
) -> None:
    stored = build.build(source, kernel).objects["a_b"].stripped
    manifest = stored.parent.parent / "manifest.json"
    match damage:
        case "truncated":
            stored.write_text("")
        case "gone":
            stored.unlink()
        case "no manifest":
            manifest.unlink()
        case "manifest cut":
            manifest.write_text(manifest.read_text()[:40])
    assert not build.build(source, kernel).cached
    assert stored.read_text() == "version 1"


def test_a_renamed_module_leaves_no_old_one_behind(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    build.build(source, kernel)
    make.order = "/m/new.o\n"
    (source.directory / "Kbuild").write_text("obj-m := new.o\n")
    done = build.build(source, kernel)
    assert [path.name for path in (source.directory / "build/6.12").glob("*.ko")] == ["new.ko"]
    assert list(done.objects) == ["new"]


def test_old_builds_go_but_the_last_ones_stay(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    for number in range(artifacts.KEPT + 3):
        (source.directory / "a.c").write_text(f"version {number}")
        build.build(source, kernel)
    builds = workdir.work_dir(source, kernel).builds
    assert len(names_in(builds)) == artifacts.KEPT


def test_single_files_share_a_directory(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    build.build(source, kernel)
    make.order = "/m/a.o\n"
    build.build(sources.find(source.directory / "a.c"), kernel)
    names = [path.name for path in (source.directory / "build/6.12").glob("*.ko")]
    assert sorted(names) == ["a-b.ko", "a.ko"]


def test_two_sources_of_a_directory_publish_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, target = (tmp_path / name for name in ("ours", "theirs", "Module.symvers"))
    ours.write_text("ours")
    theirs.write_text("theirs")
    copy = shutil.copy2

    def copy_and_be_overtaken(source: Path, place: Path) -> None:
        copy(source, place)
        if source == ours:
            artifacts._replace(target, theirs)
            assert target.read_text() == "theirs"

    monkeypatch.setattr(shutil, "copy2", copy_and_be_overtaken)
    artifacts._replace(target, ours)
    assert target.read_text() == "ours"
    assert sorted(tmp_path.iterdir()) == sorted((ours, theirs, target))


def test_make_without_a_module_is_the_caller_s_mistake(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    make.order = ""
    with pytest.raises(UsageError, match="no module in") as caught:
        build.build(source, kernel)
    assert "obj-m := a.o" in str(caught.value.hint)
    assert not (source.directory / "build").exists()


@pytest.mark.parametrize("order", ["/etc/passwd.o\n", "../x.o\n"])
def test_modules_elsewhere_are_not_collected(
    make: Make, kernel: Kernel, source: sources.ModuleSource, order: str
) -> None:
    make.order = order
    with pytest.raises(UsageError, match="not in its directory"):
        build.build(source, kernel)


def test_a_module_that_is_a_link_is_not_followed(
    make: Make,
    kernel: Kernel,
    source: sources.ModuleSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "secret").write_text("secret")

    def played(place: kbuild.Place, *rest: Any) -> Outcome:
        outcome = make(place, *rest)
        (place.tree / "a-b.ko").unlink()
        (place.tree / "a-b.ko").symlink_to(tmp_path / "secret")
        return outcome

    monkeypatch.setattr(kbuild, "run", played)
    with pytest.raises(UsageError, match="not as a regular file"):
        build.build(source, kernel)
    assert not (source.directory / "build").exists()


def test_a_failure_says_what_the_compiler_said_once(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    make.lines = ("  CC [M]  a.o", "a.c:3:1: error: no", "    3 | x", "make: *** [x: a.o] Error 1")
    make.returncode = 2
    with pytest.raises(BuildError) as caught:
        build.build(source, kernel)
    error: BuildError = pickle.loads(pickle.dumps(caught.value))
    assert error.summary == "mod does not build for 6.12: 1 error"
    assert error.diagnostics == (f"{source.directory}/a.c:3:1: error: no", "    3 | x")
    assert (error.returncode, error.argv) == (2, ("bwrap", "make"))
    assert error.log_path
    assert error.log_path.read_text().splitlines() == list(make.lines)
    assert error.hint == f"less {error.log_path}"


def test_a_failure_without_a_known_message_shows_the_end_of_the_output(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    make.lines, make.returncode = ("/bin/sh: 1: foo: not found", "make: *** [all] Error 127"), 2
    with pytest.raises(BuildError, match="make ended with 2") as caught:
        build.build(source, kernel)
    assert caught.value.diagnostics == make.lines


@pytest.mark.parametrize(
    "said",
    ['"foo" [/m/a.ko] undefined!', "a.ko: symbol 'foo' undefined!", '"foo" [a.ko] undefined!'],
)
def test_an_unresolved_symbol_is_named_in_the_hint(
    make: Make, kernel: Kernel, source: sources.ModuleSource, said: str
) -> None:
    make.lines = (f"ERROR: modpost: {said}",)
    make.returncode = 2
    with pytest.raises(BuildError) as caught:
        build.build(source, kernel)
    assert "grep -w foo" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["Kbuild", "Makefile"])
@pytest.mark.parametrize("words", ["obj-m = a.c", "obj-m := a", "obj-m += a.ko # mine"])
def test_a_name_that_kbuild_makes_no_module_of_is_told_with_the_right_one(
    make: Make, kernel: Kernel, source: sources.ModuleSource, words: str, name: str
) -> None:
    for file in ("Kbuild", "Makefile"):
        (source.directory / file).unlink(missing_ok=True)
    (source.directory / name).write_text(f"{words}\n")
    # What Linux 6.1 says of a.c, and of the others.
    make.lines, make.returncode = (
        ("Error: not ELF", "make: *** [Makefile:2002: modpost] Error 2"),
        2,
    )
    with pytest.raises(BuildError) as caught:
        build.build(source, kernel)
    assert str(caught.value.hint).startswith(f"obj-m := a.o in {source.directory}/{name}, not a")


def test_a_name_that_kbuild_passes_over_is_told_too(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    (source.directory / "Kbuild").write_text("obj-m := a.c\n")
    make.order = ""
    with pytest.raises(UsageError, match="Kbuild built nothing") as caught:
        build.build(source, kernel)
    assert str(caught.value.hint).startswith(f"obj-m := a.o in {source.directory}/Kbuild, not a.c")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("obj-m := a.o b/ \\\n c\n", ("c",)),
        ("obj-$(CONFIG_A) += a.c\nobj-${B} += b.o", ("a.c",)),
        ("# obj-m := a.c\nobj-m += $(names) x", ()),
        ("obj-y := a\nobj-mine := a.c\na-objs := a.c", ()),
    ],
)
def test_the_names_that_are_no_objects_are_found(text: str, wrong: tuple[str, ...]) -> None:
    assert misnamed(text) == wrong


def test_a_build_that_was_ended_says_why(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    make.stopped, make.returncode = "started more than 2048 processes", -9
    with pytest.raises(
        BuildError, match="its build started more than 2048 processes, and was ended"
    ):
        build.build(source, kernel)


@pytest.mark.parametrize(
    ("returncode", "line", "said"),
    [
        (-9, "  CC [M]  a.o", "signal 9"),
        (2, "gcc-14: fatal error: Killed signal terminated program cc1", "terminated program cc1"),
    ],
)
def test_a_build_that_somebody_killed_says_nothing_of_the_source(
    make: Make, kernel: Kernel, source: sources.ModuleSource, returncode: int, line: str, said: str
) -> None:
    make.lines, make.returncode = (line,), returncode
    with pytest.raises(HostError, match="was killed, not by lkm: .*" + said):
        build.build(source, kernel)


def test_a_warning_s_target_is_made_again_next_time(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    make.returncode = 2
    tree = workdir.work_dir(source, kernel).tree
    with pytest.raises(BuildError):
        build.build(source, kernel)
    (tree / "a.o").touch()
    (tree / "quiet.o").touch()
    with pytest.raises(BuildError):
        build.build(source, kernel)
    assert (tree / "quiet.o").exists()
    assert not (tree / "a.o").exists()


def test_an_interrupted_build_leaves_nothing_to_believe(
    make: Make, kernel: Kernel, source: sources.ModuleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(place: kbuild.Place, *_: object) -> Outcome:
        (place.tree / "half.o").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(kbuild, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.build(source, kernel)
    assert not (source.directory / "build").exists()
    monkeypatch.setattr(kbuild, "run", make)
    build.build(source, kernel)
    assert not (workdir.work_dir(source, kernel).tree / "half.o").exists()


def test_a_source_that_never_rests_is_refused(
    make: Make, kernel: Kernel, source: sources.ModuleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise workdir.SourceChangedError

    monkeypatch.setattr(workdir, "sync", changed)
    with pytest.raises(UsageError, match="keeps changing"):
        build.build(source, kernel)


def test_a_kernel_without_a_build_tree_is_named(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    (kernel.build_dir_on_host / "Module.symvers").unlink()
    with pytest.raises(HostError, match=r"no Module\.symvers"):
        build.build(source, kernel)
    (kernel.build_dir_on_host / "Makefile").unlink()
    with pytest.raises(HostError, match="no build tree"):
        build.build(source, kernel)


def test_a_build_directory_of_the_user_s_is_left_alone(
    make: Make, kernel: Kernel, source: sources.ModuleSource, tmp_path: Path
) -> None:
    (source.directory / "build").mkdir()
    (source.directory / "build/mine").touch()
    with pytest.raises(UsageError, match="is not lkm's") as caught:
        build.build(source, kernel)
    assert "-o DIR" in str(caught.value.hint)
    assert make.runs == 0
    done = build.build(source, kernel, output=tmp_path / "out")
    assert done.objects["a_b"].path == tmp_path / "out/6.12/a-b.ko"
    build.clean(source)
    assert names_in(source.directory / "build") == ["mine"]


def test_output_inside_the_source_is_no_source(
    make: Make, kernel: Kernel, source: sources.ModuleSource
) -> None:
    build.build(source, kernel, output=source.directory / "out")
    assert build.build(source, kernel, output=source.directory / "out").cached


def test_an_output_directory_with_other_files_is_used_but_not_claimed(
    make: Make, kernel: Kernel, source: sources.ModuleSource, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    build.build(source, kernel, output=tmp_path / "out")
    assert names_in(tmp_path / "out") == ["6.12", "mine"]


def test_a_read_only_directory_is_refused_before_make_runs(
    make: Make, kernel: Kernel, source: sources.ModuleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != source.directory)
    with pytest.raises(HostError, match="cannot write to") as caught:
        build.build(source, kernel)
    assert "-o DIR" in str(caught.value.hint)
    assert make.runs == 0


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"no space left for .*: [\d.]+ MiB free"),
        (errno.EROFS, "cannot write to"),
        (errno.EIO, "cannot be built"),
    ],
)
def test_what_the_disk_says_is_said(
    make: Make, kernel: Kernel, source: sources.ModuleSource, monkeypatch: pytest.MonkeyPatch,
    number: int, message: str,
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(source.directory / "build/6.12/a-b.ko"))

    monkeypatch.setattr(artifacts, "publish", fail)
    with pytest.raises(HostError, match=message):
        build.build(source, kernel)


def test_make_s_own_lack_of_space_is_this_computer_s(
    make: Make, kernel: Kernel, source: sources.ModuleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.lines, make.returncode = ("a.c:1:1: fatal error: x: No space left on device",), 2
    with pytest.raises(BuildError):
        build.build(source, kernel)
    monkeypatch.setattr(failure, "_free", lambda _: 1 << 20)
    with pytest.raises(HostError, match=r"no space left .* 1\.0 MiB free"):
        build.build(source, kernel)


def test_an_unusable_store_is_named(
    make: Make, kernel: Kernel, source: sources.ModuleSource, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "file/below"))
    with pytest.raises(HostError, match="file/below"):
        build.build(source, kernel)


def test_clean_leaves_the_directory_as_it_was(
    make: Make, kernel: Kernel, source: sources.ModuleSource, tmp_path: Path
) -> None:
    before = sorted(source.directory.rglob("*"))
    build.build(source, kernel)
    build.build(source, replace(kernel, release="6.1", identity="other"))
    removed = build.clean(source)
    assert sorted(source.directory.rglob("*")) == before
    assert names_in(tmp_path / "cache/work") == []
    assert set(removed) == {workdir.of_source(source), source.directory / "build"}
    assert build.clean(source) == ()
    assert not build.build(source, kernel).cached
