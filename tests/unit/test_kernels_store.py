from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.fake_store import entry, put, put_toolchain

from lkm import garbage, proc
from lkm.errors import HostError, UsageError
from lkm.kernels import apt, catalog, debian, record, store, toolchain
from lkm.kernels.catalog import Offer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LKM_CONFIG", str(tmp_path / "lkm.toml"))
    monkeypatch.delenv("LKM_KERNEL", raising=False)
    monkeypatch.setattr(proc, "popen", _must_not_run)
    return tmp_path


def _must_not_run(*argv: object, **_: object) -> None:
    raise AssertionError(f"a process was started: {argv}")


OLD, NEW = "6.12.94+deb13-cloud-amd64", "6.12.107+deb13-cloud-amd64"


@pytest.mark.parametrize(
    ("name", "release"),
    [
        (None, NEW),
        ("6.12", NEW),
        ("6.12.94", OLD),
        ("debian:trixie", NEW),
        (OLD, OLD),
        ("6.1", "6.1.0-50-cloud-amd64"),
        ("6.1-rt", "6.1.0-50-rt-amd64"),
    ],
)
def test_a_kernel_on_this_disk_is_found_by_its_names(name: str | None, release: str) -> None:
    put(entry(OLD, "trixie"))
    put(entry(NEW, "trixie"))
    put(entry("6.1.0-50-cloud-amd64", "bookworm", "gcc-12"))
    put(entry("6.1.0-50-rt-amd64", "bookworm", "gcc-12"))
    assert store.get(name, fetch=False).release == release


def test_the_configured_kernel_is_the_default(cache: Path) -> None:
    put(entry(NEW, "trixie"))
    put(entry("6.1.0-50-cloud-amd64", "bookworm", "gcc-12"))
    (cache / "lkm.toml").write_text('kernel = "6.1"\n')
    assert store.get(fetch=False).release == "6.1.0-50-cloud-amd64"


def test_a_kernel_knows_where_its_files_are(cache: Path) -> None:
    home = put(entry(NEW, "trixie"))
    kernel = store.get(NEW)
    assert kernel.image == home / f"boot/vmlinuz-{NEW}"
    assert kernel.toolchain.root == cache / "roots/trixie-gcc-14/root"
    assert kernel.build_dir_on_host == home / f"usr/src/linux-headers-{NEW}"
    assert store.describe(kernel)["build_dir"] == str(kernel.build_dir_on_host)
    assert json.loads(json.dumps(store.describe(kernel)))["suite"] == "trixie"


def test_a_store_can_be_moved(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(entry(NEW, "trixie"))
    moved = cache.with_name("moved")
    cache.rename(moved)
    monkeypatch.setenv("LKM_CACHE_DIR", str(moved))
    assert store.get(NEW).image.is_relative_to(moved)


def test_an_absent_kernel_is_not_fetched_unless_asked_to() -> None:
    put(entry(NEW, "trixie"))
    with pytest.raises(UsageError) as caught:
        store.get("6.1", fetch=False)
    assert NEW in str(caught.value)
    assert caught.value.hint == "lkm kernel fetch 6.1"


def test_without_a_network_the_error_names_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    put(entry(NEW, "trixie"))

    def offline(*_: object, **__: object) -> None:
        raise apt.failure("the lists", "E: Could not resolve 'mirror.example'")

    monkeypatch.setattr(catalog, "find_offer", offline)
    with pytest.raises(HostError) as caught:
        store.get("6.1")
    assert "Could not resolve" in str(caught.value)
    assert f"on this disk: {NEW}" in str(caught.value)


def test_a_name_that_nothing_has_is_the_callers_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    put(entry(NEW, "trixie"))
    monkeypatch.setattr(catalog, "find_offer", lambda *_, **__: None)
    with pytest.raises(UsageError) as caught:
        store.get("6.13")
    assert "nearest: 6.12" in str(caught.value)


def test_what_another_process_made_meanwhile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = Offer(NEW, "trixie", "cloud", "6.12.107-1", "image", "headers")

    def find_offer(*_: object, **__: object) -> Offer:
        put(entry(NEW, "trixie"))
        return offer

    monkeypatch.setattr(catalog, "find_offer", find_offer)
    assert store.get("6.12").release == NEW


def test_the_newest_is_fetched_also_when_an_older_one_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(entry(OLD, "trixie"))
    offer = Offer(NEW, "trixie", "cloud", "6.12.107-1", "image", "headers")
    monkeypatch.setattr(catalog, "find_offer", lambda *_, **__: offer)
    fetched: list[Offer] = []
    monkeypatch.setattr(debian, "fetch", lambda offer, **_: fetched.append(offer))
    store.fetch_newest("6.12")
    assert fetched == [offer]


def test_the_newest_is_not_fetched_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    put(entry(NEW, "trixie"))
    offer = Offer(NEW, "trixie", "cloud", "6.12.107-1", "image", "headers")
    monkeypatch.setattr(catalog, "find_offer", lambda *_, **__: offer)
    monkeypatch.setattr(debian, "fetch", _must_not_run)
    assert store.fetch_newest("6.12").release == NEW


def test_a_lost_toolchain_is_made_again_for_the_kernel_that_is_here(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = entry(NEW, "trixie")
    put(made)
    (cache / "roots/trixie-gcc-14/meta.json").unlink()
    assert store.installed() == []
    assert [damage.reason for damage in store.damaged()] == [
        "its toolchain trixie gcc-14 is missing, and is fetched at its next use"
    ]

    def ensure(suite: str, cc: str, **_: object) -> object:
        put_toolchain(suite, cc)
        return toolchain.find(suite, cc)

    monkeypatch.setattr(toolchain, "ensure", ensure)
    root = store.get(NEW).toolchain.root
    assert (root / f"usr/src/linux-headers-{NEW}").is_dir()


def test_a_toolchain_that_was_made_again_for_one_kernel_serves_the_others(cache: Path) -> None:
    for release in (OLD, NEW):
        put(entry(release, "trixie"))
    shutil.rmtree(cache / "roots/trixie-gcc-14")
    put_toolchain("trixie", "gcc-14")
    for release in (OLD, NEW):
        root = store.get(release).toolchain.root
        assert (root / f"usr/src/linux-headers-{release}").is_dir()


def _truncate(home: Path) -> None:
    meta = home / record.META
    meta.write_text(meta.read_text()[:100])


def _rename_release(home: Path) -> None:
    meta = home / record.META
    meta.write_text(meta.read_text().replace(NEW, OLD))


def _set(key: str, value: object) -> object:
    def change(home: Path) -> None:
        meta = home / record.META
        fields = json.loads(meta.read_text())
        fields[key] = value
        meta.write_text(json.dumps(fields))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda home: (home / record.META).unlink(), "is missing"),
        (_truncate, "is damaged"),
        (lambda home: (home / record.META).write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda home: (home / record.META).write_text("[]"), "schema"),
        (_set("schema", 99), "schema"),
        (_set("arch", "vax"), "vax"),
        (_set("binds", 7), "is damaged"),
        (_set("image", ""), "is damaged"),
        (_set("surprise", 1), "surprise"),
        (_rename_release, "is that of"),
        (lambda home: (home / f"boot/vmlinuz-{NEW}").unlink(), "is missing"),
    ],
)
def test_a_damaged_kernel_is_said_and_never_believed(damage: object, reason: str) -> None:
    home = put(entry(NEW, "trixie"))
    assert callable(damage)
    damage(home)
    assert store.installed() == []
    assert [found.path for found in store.damaged()] == [home]
    assert reason in store.damaged()[0].reason
    with pytest.raises(UsageError, match="not on this disk"):
        store.get(NEW, fetch=False)


def test_partial_directories_are_no_kernels(cache: Path) -> None:
    home = put(entry(NEW, "trixie"))
    home.rename(home.with_name(f".partial-{NEW}.00000000"))
    assert store.installed() == []
    assert store.damaged() == []


def test_an_empty_store_is_empty() -> None:
    assert store.installed() == []
    assert store.damaged() == []


def test_removing_a_kernel_frees_its_toolchain_with_the_last_user(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(entry(OLD, "trixie"))
    put(entry(NEW, "trixie"))
    first = store.remove(OLD)
    assert (cache / "roots/trixie-gcc-14").is_dir()
    second = store.remove(NEW)
    assert not (cache / "roots/trixie-gcc-14").exists()
    assert second >= first + 5678
    assert store.installed() == []


def test_the_roots_of_another_store_are_not_removed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(entry(NEW, "trixie"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "roots").symlink_to(cache / "roots")
    monkeypatch.setenv("LKM_CACHE_DIR", str(mine))
    put(entry(OLD, "trixie"))
    store.remove(OLD)
    assert (cache / "roots/trixie-gcc-14/meta.json").is_file()
    assert garbage.find(0) == []


def test_roots_that_lie_on_another_disk_are_removed(cache: Path, tmp_path: Path) -> None:
    put(entry(NEW, "trixie"))
    elsewhere = tmp_path / "large/roots"
    elsewhere.parent.mkdir()
    (cache / "roots").rename(elsewhere)
    (cache / "roots").symlink_to(elsewhere)
    store.remove(NEW)
    assert not (elsewhere / "trixie-gcc-14").exists()


def test_what_another_kernel_has_too_is_not_counted_as_freed() -> None:
    home, other = put(entry(NEW, "trixie")), put(entry(OLD, "trixie"))
    (home / "shared").write_bytes(b"x" * 100_000)
    (home / "own").write_bytes(b"x" * 50_000)
    (other / "shared").hardlink_to(home / "shared")
    assert 50_000 <= store.remove(NEW) < 100_000


def test_removing_a_damaged_kernel_works() -> None:
    home = put(entry(NEW, "trixie"))
    (home / record.META).write_text("{")
    store.remove(NEW)
    assert not home.exists()


@pytest.mark.parametrize("name", ["6.1.0-1-amd64", "..", "", "."])
def test_removing_what_is_not_there_is_refused(cache: Path, name: str) -> None:
    put(entry(NEW, "trixie"))
    with pytest.raises(UsageError):
        store.remove(name)
    assert len(store.installed()) == 1


def test_installed_kernels_come_oldest_first() -> None:
    for release, suite in ((NEW, "trixie"), ("6.1.0-50-cloud-amd64", "bookworm"), (OLD, "trixie")):
        put(entry(release, suite))
    assert [k.release for k in store.installed()] == ["6.1.0-50-cloud-amd64", OLD, NEW]


def test_a_record_survives_being_written_and_read(tmp_path: Path) -> None:
    made = replace(entry(NEW, "trixie"), packages=("a 1", "b 2"), system_map="boot/System.map")
    assert record.read(put(made)) == made
