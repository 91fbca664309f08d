"""What is kept of a cell is believed only while everything that it depends on is the same."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.matrix_cells import KERNELS, cell, result, source

from lkm import code
from lkm import source as plain
from lkm.errors import HostError, UsageError
from lkm.kernels import store
from lkm.matrix import results, sources
from lkm.matrix.cell import Cell
from lkm.matrix.results import Kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(one: Cell, **more: Any) -> None:
    Kept().keep(one, result(one.kernel, **more))


def test_an_unchanged_cell_is_found_and_says_that_it_was_kept(tmp_path: Path) -> None:
    one = cell(source(tmp_path))
    assert Kept().find(one) is None
    kept(one, state="build-failed", reason="no")
    found = Kept().find(one)
    assert found == dataclasses.replace(result(one.kernel, "build-failed", "no"), kept=True)


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": KERNELS[1]},
        {"params": ("a=1",)},
        {"tests": True},
        {"timeout": 60.0},
    ],
    ids=str,
)
def test_another_cell_is_not_found(tmp_path: Path, other: dict[str, Any]) -> None:
    one = cell(source(tmp_path))
    kept(one)
    assert Kept().find(dataclasses.replace(one, **other)) is None


def test_a_changed_source_runs_again_and_comes_back_free(tmp_path: Path) -> None:
    kept(cell(source(tmp_path)))
    assert Kept().find(cell(source(tmp_path, "/* changed */\n"))) is None
    assert Kept().find(cell(source(tmp_path))) is not None


def test_the_same_source_by_another_name_is_found_and_called_by_that(tmp_path: Path) -> None:
    one = cell(source(tmp_path))
    kept(one)
    renamed = dataclasses.replace(one, source=dataclasses.replace(one.source, name="./demo"))
    found = Kept().find(renamed)
    assert found is not None
    assert (found.source, found.kept) == ("./demo", True)


def test_another_lkm_believes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cell(source(tmp_path))
    kept(one)
    monkeypatch.setattr(code, "identity", lambda: "another")
    assert Kept().find(one) is None


@pytest.mark.parametrize("state", ["error", "bad-input"])
def test_what_is_no_verdict_is_never_kept(tmp_path: Path, state: str) -> None:
    one = cell(source(tmp_path))
    kept(one, state=state)
    assert Kept().find(one) is None


def test_a_kernel_that_was_fetched_anew_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(name: str, *, fetch: bool) -> Any:
        assert not fetch
        tools = dataclasses.make_dataclass("T", ["identity"])("tools")
        return dataclasses.make_dataclass("K", ["identity", "toolchain"])("kernel", tools)

    monkeypatch.setattr(store, "get", get)
    one = cell(source(tmp_path))
    kept(one, kernel_identity="kernel", toolchain_identity="tools")
    assert Kept().find(one) is not None
    kept(one, kernel_identity="older", toolchain_identity="tools")
    assert Kept().find(one) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 0}', None])
def test_a_damaged_file_is_no_result(tmp_path: Path, cache: Path, content: bytes | None) -> None:
    one = cell(source(tmp_path))
    kept(one)
    (path,) = cache.glob("matrix/results/*/*.json")
    whole = json.loads(path.read_bytes())
    del whole["cell"]["state"]
    path.write_bytes(json.dumps(whole).encode() if content is None else content)
    assert Kept().find(one) is None


def test_a_full_disk_leaves_no_half_result(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    one = cell(source(tmp_path))
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(HostError, match=r"demo on 5\.10.* is not kept: no space left"):
        kept(one)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_results_that_nobody_asked_for_in_90_days_go(tmp_path: Path, cache: Path) -> None:
    one = cell(source(tmp_path))
    kept(one)
    (path,) = cache.glob("matrix/results/*/*.json")
    results.sweep()
    assert path.exists()
    long_ago = time.time() - 91 * 86400
    os.utime(path, (long_ago, long_ago))
    results.sweep()
    assert not path.exists()


# A source that travels


def test_a_source_arrives_whole_and_is_built_under_its_own_name(tmp_path: Path) -> None:
    taken = source(tmp_path)
    (taken.path / "test_demo.py").write_text("")
    there = sources.place(sources.packed(taken))
    assert there != taken.path
    assert there.name == "demo"
    assert sorted(path.name for path in there.iterdir()) == ["Kbuild", "demo.c"]
    assert sources.take(there).digest == taken.digest


def test_with_its_tests_it_has_them(tmp_path: Path) -> None:
    source(tmp_path)
    (tmp_path / "demo" / "test_demo.py").write_text("")
    (tmp_path / "demo" / "data.json").write_text("{}")
    taken = sources.take(tmp_path / "demo", tests=True)
    assert taken.digest != sources.take(tmp_path / "demo").digest
    there = sources.place(sources.packed(taken, tests=True))
    assert (there / "test_demo.py").exists()
    assert (there / "data.json").exists()


def test_a_source_that_looks_beside_itself_takes_its_work_tree_along(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "shared.h").write_text("#define A 1\n")
    before = source(tmp_path, '#include "../shared.h"\n')
    there = sources.place(sources.packed(before))
    assert (there / "../shared.h").read_text() == "#define A 1\n"
    assert plain.find(there).worktree == there.parent
    (tmp_path / "shared.h").write_text("#define A 2\n")
    assert sources.take(before.path).digest != before.digest


def test_a_single_file_travels_with_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text('#include "one.h"\n')
    (tmp_path / "one.h").write_text("")
    (tmp_path / "other.c").write_text("")
    there = sources.place(sources.packed(sources.take(tmp_path / "one.c")))
    assert there.name == "one.c"
    assert sorted(path.name for path in there.parent.iterdir()) == ["one.c", "one.h"]


def test_what_was_unpacked_and_not_used_for_two_weeks_goes(tmp_path: Path) -> None:
    old = sources.place(sources.packed(source(tmp_path)))
    long_ago = time.time() - 15 * 86400
    os.utime(old.parent, (long_ago, long_ago))
    new = sources.place(sources.packed(source(tmp_path, "/* new */")))
    assert new.is_dir()
    assert not old.exists()


def test_a_source_that_changes_while_it_is_packed_is_refused(tmp_path: Path) -> None:
    taken = source(tmp_path)
    (taken.path / "demo.c").write_text("/* later */\n")
    with pytest.raises(UsageError, match="changed while the matrix ran"):
        sources.packed(taken)
