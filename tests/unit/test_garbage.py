"""`lkm kernel gc`: what goes, what stays, and what others are busy with."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.fake_store import entry, put

from lkm import atomic, garbage
from lkm.errors import UsageError
from lkm.garbage import Garbage
from lkm.kbuild import workdir
from lkm.kernels import record, store, toolchain
from lkm.vm import named

OLD, NEW = "6.12.95+deb13-cloud-amd64", "6.12.117+deb13-cloud-amd64"
OTHER = "5.10.0-32-rt-amd64"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(named, "machines", list)
    return tmp_path


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def kernel(release: str, days: float, suite: str = "trixie") -> Path:
    home = put(entry(release, suite))
    aged(home / record.META, days)
    return home


def frozen(cache: Path, release: str, days: float, rootfs: str | None = None) -> Path:
    home = cache / "snapshots" / f"{release}-virtual-00"
    home.mkdir(parents=True)
    (home / "meta.json").write_text(json.dumps({"release": release, "rootfs": rootfs}))
    aged(home / "meta.json", days)
    return home


def built(cache: Path, release: str, days: float) -> Path:
    home = cache / "work" / "hello-01" / f"{release}-23456789abcd"
    home.mkdir(parents=True)
    (home / "state.json").touch()
    aged(home / "state.json", days)
    return home


def reasons(found: list[Garbage]) -> dict[str, str]:
    return {each.what: each.why for each in found}


def test_what_was_not_used_goes_with_all_that_is_its_own(cache: Path) -> None:
    home, machine = kernel(OTHER, 50, "bullseye"), frozen(cache, OTHER, 41.2)
    stays = kernel(NEW, 50), frozen(cache, NEW, 3)
    found = garbage.find()
    assert reasons(found) == {
        f"kernel {OTHER}": "not used for 41 days",
        "toolchain root bullseye-gcc-14": "no kernel uses it",
        f"frozen machine of {OTHER}": "its kernel goes",
    }
    assert home.is_dir()
    gone, busy = garbage.remove(found)
    assert (gone, busy) == (found, [])
    assert not home.exists()
    assert not machine.exists()
    assert all(path.is_dir() for path in stays)
    assert [k.release for k in store.installed()] == [NEW]
    assert garbage.find() == []


def test_a_kernel_whose_toolchain_is_gone_goes_like_any_other() -> None:
    home = kernel(OTHER, 50, "bullseye")
    kernel(NEW, 1)
    (toolchain.roots_dir() / "bullseye-gcc-14/meta.json").unlink()
    found = garbage.find()
    assert f"kernel {OTHER}" in reasons(found)
    garbage.remove(found)
    assert not home.exists()


def test_a_root_to_be_made_anew_stays_with_the_kernel_that_uses_it() -> None:
    kernel(OTHER, 50, "bullseye")
    kernel(NEW, 1)
    (toolchain.roots_dir() / "trixie-gcc-14/meta.json").unlink()
    assert "toolchain root trixie-gcc-14" not in reasons(garbage.find())


def test_package_lists_go_when_no_one_has_asked_for_long(cache: Path) -> None:
    for suite, days in (("sid", 31.2), ("trixie", 2), ("bullseye", 0.5)):
        home = cache / "apt" / f"{suite}-amd64"
        home.mkdir(parents=True)
        (home / "updated").touch()
        aged(home / "updated", days)
    (cache / "apt/forky-amd64").mkdir()
    assert reasons(garbage.find()) == {"package lists of sid": "31 days old"}
    gone, _ = garbage.remove(garbage.find(0))
    assert [each.what for each in gone] == ["package lists of sid", "package lists of trixie"]
    assert sorted(path.name for path in (cache / "apt").glob("[!.]*")) == [
        "bullseye-amd64", "forky-amd64",
    ]  # fmt: skip


@pytest.mark.parametrize("use", [frozen, built], ids=["restored", "built for"])
def test_a_kernel_that_is_restored_or_built_for_is_used(
    cache: Path, use: Callable[[Path, str, float], Path]
) -> None:
    kernel(NEW, 50)
    use(cache, NEW, 1)
    assert garbage.find() == []
    assert f"kernel {NEW}" in reasons(garbage.find(0.5))


def test_an_older_kernel_of_the_same_series_and_flavour_goes_sooner(cache: Path) -> None:
    kernel(OLD, 3)
    kernel(NEW, 3)
    kernel("6.12.95+deb13-rt-amd64", 3)
    assert reasons(garbage.find()) == {f"kernel {OLD}": f"{NEW} is newer"}
    frozen(cache, OLD, 1)
    assert garbage.find() == []


@pytest.mark.parametrize("name", [OTHER, "5.10-rt", "debian:bullseye-rt", "5.10.*"])
def test_what_is_to_be_kept_stays(name: str) -> None:
    kernel(OTHER, 99, "bullseye")
    assert garbage.find()
    assert garbage.find(keep=[name]) == []


def test_a_name_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="nonsense"):
        garbage.find(keep=["nonsense"])


def test_the_kernel_of_a_machine_that_is_up_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel(OTHER, 99)
    frozen(cache, OTHER, 99)
    monkeypatch.setattr(named, "machines", lambda: [SimpleNamespace(release=OTHER)])
    assert garbage.find() == []


def test_a_root_file_system_stays_as_long_as_a_machine_that_has_it(cache: Path) -> None:
    kernel(NEW, 0)
    home = cache / "rootfs" / "trixie-00"
    home.mkdir(parents=True)
    (home / "meta.json").write_text(json.dumps({"identity": "abc"}))
    aged(home, 60)
    machine = frozen(cache, NEW, 1, rootfs="abc")
    assert garbage.find() == []
    aged(machine / "meta.json", 31)
    assert set(reasons(garbage.find())) == {
        f"frozen machine of {NEW}", "root file system trixie-00",
    }  # fmt: skip


def test_a_toolchain_with_a_source_s_packages_goes_with_its_plain_one(cache: Path) -> None:
    kernel(NEW, 1)
    added = cache / "additions" / "trixie-gcc-14-00"
    added.mkdir(parents=True)
    (added / "meta.json").write_text(json.dumps({"base": "abcd"}))
    aged(added, 10)
    assert garbage.find() == []
    aged(added, 40)
    assert reasons(garbage.find()) == {f"toolchain root {added.name}": "not used for 40 days"}
    (added / "meta.json").write_text(json.dumps({"base": "another"}))
    aged(added, 1)
    assert garbage.find() == []
    aged(added, 3)
    found = garbage.find()
    assert reasons(found) == {f"toolchain root {added.name}": "no kernel uses it"}
    assert garbage.remove(found) == (found, [])
    assert not added.exists()


def test_builds_and_kept_results_go_by_their_age(cache: Path) -> None:
    home = built(cache, NEW, 31)
    result = cache / "faults" / "key"
    result.mkdir(parents=True)
    aged(result, 31)
    (cache / "programs" / "new").mkdir(parents=True)
    found = garbage.find()
    assert reasons(found) == {
        f"build hello-01 for {NEW}": "not used for 31 days",
        "faults/key": "not used for 31 days",
    }
    garbage.remove(found)
    assert not home.parent.exists()
    assert not result.exists()


def test_a_download_that_nobody_took_up_again_goes(cache: Path) -> None:
    left, new = (cache / "kernels" / f"{atomic.DOWNLOAD}{name}" for name in ("a", "b"))
    left.mkdir(parents=True)
    new.mkdir()
    aged(left, 3)
    assert reasons(garbage.find()) == {"downloads for a": "left 3 days ago"}


def test_what_another_lkm_is_busy_with_is_left(cache: Path) -> None:
    home, build = kernel(OTHER, 50), built(cache, OTHER, 50)
    with atomic.exclusive(home, "the kernel"), workdir.locked(build, timeout=0):
        gone, busy = garbage.remove(garbage.find())
    assert gone == []
    assert {each.what for each in busy} == {
        f"kernel {OTHER}", "toolchain root trixie-gcc-14", f"build hello-01 for {OTHER}",
    }  # fmt: skip
    assert home.is_dir()
    assert build.is_dir()


def test_a_store_that_is_not_there_has_nothing_to_remove(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "none"))
    assert garbage.find() == []
