"""What counts as a module source, and which of its files take part in a build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm import source
from lkm.errors import UsageError


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def listed(found: source.ModuleSource) -> list[str]:
    return [file.name for file in source.files(found)]


@pytest.mark.parametrize("name", ["Kbuild", "Makefile"])
def test_a_directory_with_a_kbuild_file_is_a_source(tmp_path: Path, name: str) -> None:
    found = source.find(write(tmp_path, {name: "obj-m := a.o\n"}))
    assert found == source.ModuleSource(tmp_path)
    assert (found.name, found.path, found.kbuild) == (tmp_path.name, tmp_path, None)


def test_a_c_file_is_a_source_with_a_kbuild_file_of_its_own(tmp_path: Path) -> None:
    found = source.find(write(tmp_path, {"my-mod.c": ""}) / "my-mod.c")
    assert found.directory == tmp_path
    assert (found.name, found.kbuild) == ("my-mod", "obj-m := my-mod.o\n")


def test_a_symlink_to_a_source_is_the_same_source(tmp_path: Path) -> None:
    real = write(tmp_path / "real", {"Kbuild": "", "a.c": ""})
    link = tmp_path / "link"
    link.symlink_to(real)
    assert source.find(link) == source.find(real)
    assert source.find(link / "a.c") == source.find(real / "a.c")


@pytest.mark.parametrize(
    ("path", "summary", "hint"),
    [
        ("gone", "No such file", "lkm build DIR"),
        ("empty", "no Kbuild file, no Makefile", "obj-m := NAME.o"),
        ("bare", "no Kbuild file, no Makefile", "lkm build {0}/bare/one.c"),
        ("made.ko", "is built already", "lkm run {0}/made.ko"),
        ("sub/Makefile", "is not a module source", "lkm build {0}/sub"),
        ("notes.txt", "is not a module source", "lkm build"),
        ("a b.c", "cannot be a module's name", "a_b.c"),
        ("a.b.c", "cannot be a module's name", "a_b.c"),
        ("pipe.c", "is not a module source", "lkm build"),
    ],
)
def test_what_is_no_source_is_refused_with_a_hint(
    tmp_path: Path, path: str, summary: str, hint: str
) -> None:
    write(
        tmp_path,
        {
            "bare/one.c": "",
            "made.ko": "",
            "sub/Makefile": "",
            "notes.txt": "",
            "a b.c": "",
            "a.b.c": "",
        },
    )
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.c")
    with pytest.raises(UsageError) as caught:
        source.find(tmp_path / path)
    assert summary in caught.value.summary
    assert hint.format(tmp_path) in str(caught.value.hint)


def test_an_unreadable_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UsageError, match="cannot read"):
        source.find(tmp_path)


def test_what_kbuild_wrote_is_left_out_and_what_the_author_shipped_stays(tmp_path: Path) -> None:
    shipped = {
        "Kbuild": "", "main.c": "", "entry.S": "", "sub/part.c": "", "blob.o": "", ".blob.o.cmd": "",
        "other.o_shipped": "", "deps/Module.symvers": "", ".config.h": "",
    }  # fmt: skip
    made = {
        "main.o": "", "entry.o": "", "mod.ko": "", "mod.mod": "", "mod.mod.c": "", "mod.mod.o": "",
        "mod.o": "", ".mod.o.cmd": "savedcmd_mod.o := ld\n", ".main.o.cmd": "cmd_main.o := gcc\n",
        "modules.order": "", "Module.symvers": "", "sub/part.o": "", ".module-common.o": "",
        ".git/config": "", ".tmp_versions/mod.mod": "",
    }  # fmt: skip
    assert listed(source.find(write(tmp_path, shipped | made))) == sorted(shipped)


def test_the_tests_beside_a_module_are_no_part_of_its_build(tmp_path: Path) -> None:
    names = ("Kbuild", "a.c", "gen.py", "test_a.py", "conftest.py", "__pycache__/test_a.pyc")
    write(tmp_path, dict.fromkeys(names, ""))
    assert listed(source.find(tmp_path)) == ["Kbuild", "a.c", "gen.py"]


def test_only_a_build_directory_of_lkm_s_own_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"Kbuild": "", "build/config.mk": "", "sub/build/a.h": ""})
    assert listed(source.find(tmp_path)) == ["Kbuild", "build/config.mk", "sub/build/a.h"]
    write(tmp_path, {"build/.gitignore": f"{source.MARKER}\n*\n"})
    assert listed(source.find(tmp_path)) == ["Kbuild", "sub/build/a.h"]


def test_symlinks_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, {"common/c.h": "x", "mod/Kbuild": ""})
    (tmp_path / "mod/c.h").symlink_to("../common/c.h")
    (tmp_path / "mod/all").symlink_to("../common")
    (tmp_path / "mod/self").symlink_to(".")
    (tmp_path / "mod/nowhere.h").symlink_to("nothing")
    os.mkfifo(tmp_path / "mod/fifo")
    assert listed(source.find(tmp_path / "mod")) == ["Kbuild", "all/c.h", "c.h"]


def test_names_that_are_not_utf8_are_files_too(tmp_path: Path) -> None:
    write(tmp_path, {"Kbuild": "", "größe.c": ""})
    with open(os.fsencode(tmp_path) + b"/\xff.h", "wb"):
        pass
    assert listed(source.find(tmp_path)) == ["Kbuild", "größe.c", os.fsdecode(b"\xff.h")]


def test_a_single_file_brings_what_it_includes_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "m/one.c": '#include <linux/module.h>\n#include "a.h"\n # include "sub/b.h"\n',
            "m/a.h": '#include "one.c"\n#include "../out.h"\n#include "gone.h"\n',
            "m/sub/b.h": '#include "c.h"\n',
            "m/sub/c.h": "",
            "m/unrelated.h": "",
            "m/two.c": "",
            "out.h": "",
        },
    )
    names = listed(source.find(tmp_path / "m/one.c"))
    assert sorted(names) == ["a.h", "one.c", "sub/b.h", "sub/c.h"]


def test_a_directory_that_is_too_large_is_refused_naming_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 4 << 20)
    write(tmp_path, {"Kbuild": "", "disk.img": "x" * (5 << 20)})
    with pytest.raises(UsageError, match="more than") as caught:
        source.files(source.find(tmp_path))
    assert "5 MiB disk.img" in caught.value.evidence


def test_the_enclosing_git_work_tree_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"repo/.git/HEAD": "", "repo/drivers/mod/Kbuild": ""})
    found = source.find(tmp_path / "repo/drivers/mod")
    assert found.worktree == tmp_path / "repo"
    monkeypatch.setenv("HOME", str(tmp_path / "repo"))
    assert found.worktree is None
