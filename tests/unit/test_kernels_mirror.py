"""Kernels fetched from a mirror that goes wrong: apt, HTTP and the unpacking are real, the archive is small."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.mirror import Mirror, serving
from tests.unit.debian_archive import (
    CLOUD,
    IMAGE_BYTES,
    RT,
    Archive,
    depmod,
    image_of,
    put_tools,
)

from lkm.errors import HostError, LkmError
from lkm.kernels import apt, debian, early, record, several, store, toolchain
from lkm.kernels.kernel import Kernel, Toolchain


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    made = Archive(tmp_path_factory.mktemp("archive"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tools")
    put_tools(made)
    return made


@pytest.fixture
def archive(published: Archive) -> Archive:
    changed = copy.copy(published)
    changed.files = dict(published.files)
    return changed


@pytest.fixture
def mirror(
    archive: Archive, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    with serving(archive.find) as server:
        monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("LKM_CONFIG", str(tmp_path / "lkm.toml"))
        monkeypatch.setenv("LKM_DEBIAN_MIRROR", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("LKM_KERNEL", raising=False)
        monkeypatch.setattr(apt, "keyring", lambda: archive.keyring)
        monkeypatch.setattr(debian, "depmod", depmod)
        put_toolchain(tools)
        yield server


def put_toolchain(tools: Path) -> None:
    home = toolchain.roots_dir() / "trixie-gcc-14"
    shutil.copytree(tools, home / "root", symlinks=True, copy_function=os.link)
    (home / "meta.json").write_text(
        json.dumps({"schema": toolchain.SCHEMA, "identity": "abcd", "bytes": 1})
    )


def left() -> list[str]:
    """What lies in the store beside kernels and locks."""
    names = [path.name for path in record.kernels_dir().iterdir()]
    return sorted(name for name in names if not name.endswith(".lock"))


def wanted_of(mirror: Mirror, deb: str) -> list[int]:
    """From which byte on a file was asked for, each time."""
    return [start for path, start in mirror.asked if path.endswith(deb)]


def test_a_kernel_is_fetched_and_nothing_else_is_left(mirror: Mirror) -> None:
    kernel = store.get("6.12")
    assert kernel.image.stat().st_size == IMAGE_BYTES
    assert kernel.to_host("/usr/src/linux-headers-6.12.1-common/Makefile").is_file()
    assert left() == [CLOUD]
    assert not (kernel.image.parents[1] / "usr/share").exists()


@pytest.mark.parametrize("can_unpack_early", [True, False])
def test_modules_are_unpacked_while_they_come_where_that_can_be(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, can_unpack_early: bool
) -> None:
    if not can_unpack_early:
        (toolchain.roots_dir() / "trixie-gcc-14/root/usr/bin/dpkg-deb").unlink()
    went_well: list[bool] = []

    def noted(*words: Any) -> bool:
        went_well.append(unpack(*words))
        return went_well[-1]

    unpack = early.unpack
    monkeypatch.setattr(early, "unpack", noted)
    kernel = store.get("6.12")
    assert went_well == [can_unpack_early]
    assert kernel.image.stat().st_size == IMAGE_BYTES
    assert sorted(path.name for path in kernel.image.parents[1].iterdir()) == [
        "boot", "lib", "meta.json", "usr",
    ]  # fmt: skip


def test_two_flavours_have_what_is_common_once(mirror: Mirror) -> None:
    found = several.fetch([CLOUD, RT])
    kernels = [kernel for kernel in found if isinstance(kernel, Kernel)]
    assert [kernel.release for kernel in kernels] == [CLOUD, RT]
    inside = "/usr/src/linux-headers-6.12.1-common/Makefile"
    assert len({kernel.to_host(inside).stat().st_ino for kernel in kernels}) == 1
    assert len(wanted_of(mirror, "common_6.12.1-1_amd64.deb")) == 1
    store.remove(CLOUD)
    assert store.get(RT, fetch=False).to_host(inside).read_bytes() == b"all:\n"


def test_two_flavours_are_fetched_side_by_side(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(partial: Path, release: str, tools: Toolchain) -> None:
        deadline = time.monotonic() + 60
        while not all(wanted_of(mirror, image_of(each)) for each in (CLOUD, RT)):
            assert time.monotonic() < deadline, f"{release} is done before the other was begun"
            time.sleep(0.02)
        depmod(partial, release, tools)

    monkeypatch.setattr(debian, "depmod", waiting)
    got = several.fetch([CLOUD, RT])
    assert not any(isinstance(each, LkmError) for each in got)
    assert len(wanted_of(mirror, "common_6.12.1-1_amd64.deb")) == 1


def test_one_that_cannot_be_had_does_not_keep_the_others(archive: Archive, mirror: Mirror) -> None:
    archive.withdraw(image_of(CLOUD))
    failed, got = several.fetch([CLOUD, RT])
    assert isinstance(failed, HostError)
    assert isinstance(got, Kernel)
    assert got.release == RT


def test_a_kernel_withdrawn_while_it_is_fetched_is_looked_up_anew(
    archive: Archive, mirror: Mirror
) -> None:
    archive.withdraw(image_of(CLOUD))
    with pytest.raises(HostError, match="cannot be had from the mirror") as caught:
        store.get("6.12")
    assert any("404" in line for line in caught.value.evidence)
    assert caught.value.hint == "see what is offered: lkm kernel list --available"
    lists = [path for path, _ in mirror.asked if path.endswith("InRelease")]
    assert len(lists) == 2
    assert store.installed() == []
    assert store.damaged() == []


def test_a_kernel_that_new_lists_do_not_have_is_said_to_be_withdrawn(
    archive: Archive, mirror: Mirror
) -> None:
    assert store.get(RT).release == RT
    archive.withdraw(image_of(CLOUD))
    archive.forget(CLOUD)
    with pytest.raises(HostError) as caught:
        store.get(CLOUD)
    assert caught.value.summary == f"{CLOUD} has been withdrawn from Debian trixie"
    assert caught.value.evidence == (f"on this disk: {RT}",)
    assert caught.value.hint == "lkm kernel list --available"


def test_a_damaged_file_is_refused_and_a_good_one_taken_later(
    archive: Archive, mirror: Mirror
) -> None:
    path = archive.path_of(image_of(CLOUD))
    good = archive.files[path]
    archive.files[path] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(HostError, match="failed verification") as caught:
        store.get("6.12")
    assert any("Hash Sum mismatch" in line for line in caught.value.evidence)
    assert store.installed() == []
    archive.files[path] = good
    assert store.get("6.12").image.stat().st_size == IMAGE_BYTES


def test_what_was_damaged_on_this_disk_is_fetched_again(archive: Archive, mirror: Mirror) -> None:
    area = record.kernels_dir() / f".download-{CLOUD}"
    area.mkdir(parents=True)
    size = len(archive.files[archive.path_of(image_of(CLOUD))])
    (area / image_of(CLOUD)).write_bytes(b"\0" * size)
    assert store.get("6.12").image.stat().st_size == IMAGE_BYTES
    assert left() == [CLOUD]


def test_a_mirror_that_stops_in_mid_file_is_asked_for_the_rest(mirror: Mirror) -> None:
    mirror.cuts = {image_of(CLOUD): 1_000_000}
    assert store.get("6.12").release == CLOUD
    first, *rest = wanted_of(mirror, image_of(CLOUD))
    assert first == 0
    assert rest
    assert min(rest) > 500_000


def test_what_is_whole_is_not_downloaded_again(archive: Archive, mirror: Mirror) -> None:
    deb = f"linux-headers-{CLOUD}_6.12.1-1_amd64.deb"
    good = archive.files[archive.path_of(deb)]
    archive.withdraw(deb)
    with pytest.raises(HostError):
        store.get("6.12")
    assert left() == [f".download-{CLOUD}"]
    before = len(wanted_of(mirror, image_of(CLOUD)))
    archive.files[archive.path_of(deb)] = good
    assert store.get("6.12").release == CLOUD
    assert len(wanted_of(mirror, image_of(CLOUD))) == before == 1


def fetching(archive: Archive, *before: str) -> subprocess.Popen[str]:
    code = "import sys; from tests.unit import debian_archive; sys.exit(debian_archive.fetch(sys.argv[1]))"
    return subprocess.Popen(
        [*before, sys.executable, "-c", code, str(archive.keyring)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def test_an_interrupted_fetch_goes_on_where_it_was(archive: Archive, mirror: Mirror) -> None:
    mirror.rate = 1_000_000
    with fetching(archive) as process:
        deb = record.kernels_dir() / f".download-{CLOUD}" / image_of(CLOUD)
        deadline = time.monotonic() + 60
        while not (deb.exists() and deb.stat().st_size > 500_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert f".download-{CLOUD}" in left()
    assert set(left()) <= {f".download-{CLOUD}", f".download-{RT}"}
    assert store.installed() == []
    mirror.rate = None
    got = several.fetch([CLOUD, RT])
    assert not any(isinstance(each, LkmError) for each in got)
    assert wanted_of(mirror, image_of(CLOUD))[-1] > 500_000
    assert left() == [CLOUD, RT]


def test_a_disk_that_fills_up_while_a_kernel_is_unpacked(archive: Archive, mirror: Mirror) -> None:
    """Five megabytes hold the packages of one kernel, and not what is in them, too."""
    home = record.kernels_dir()
    home.mkdir()
    said, _ = fetching(
        archive, "bwrap", "--dev-bind", "/", "/", "--size", "5000000", "--tmpfs", str(home)
    ).communicate(timeout=120)
    assert "no space left" in said
    assert "hint: free some with `lkm kernel" in said
    assert "Traceback" not in said


def test_two_threads_that_want_one_kernel_fetch_it_once(mirror: Mirror) -> None:
    found: list[Kernel] = []
    threads = [threading.Thread(target=lambda: found.append(store.get(CLOUD))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(wanted_of(mirror, image_of(CLOUD))) == 1
