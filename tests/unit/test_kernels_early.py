"""Packages unpacked while they are on their way: dpkg-deb and the sandbox are real."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.unit.debian_archive import put_tools

from lkm.kernels import early
from lkm.kernels.apt import Package

LONG = 10.0 * 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tools")
    put_tools(made)
    return made


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package of `a` and `b`, a megabyte each, and a program that is setuid."""
    source = tmp_path_factory.mktemp("deb")
    (source / "DEBIAN").mkdir()
    (source / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: lkm <lkm@example.org>\nDescription: x\n"
    )
    for name in ("a", "b"):
        (source / name).write_bytes(name.encode() * 1_000_000)
    (source / "su").touch()
    (source / "su").chmod(0o4755)
    made = source.with_suffix(".deb")
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", source, made],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return made.read_bytes()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "into"
    made.mkdir()
    return made


def package(deb: bytes) -> Package:
    digest = hashlib.sha256(deb).hexdigest()
    return Package("x", "1", "x.deb", len(deb), f"SHA256:{digest}")


def over() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_what_has_come_is_unpacked_before_the_rest_is_there(
    tmp_path: Path, into: Path, root: Path, deb: bytes
) -> None:
    file, came, found = tmp_path / "x.deb", threading.Event(), []

    def follow() -> None:
        found.append(early.unpack(file, package(deb), into, root, came))

    thread = threading.Thread(target=follow)
    thread.start()
    with file.open("wb", buffering=0) as growing:
        growing.write(deb[:1_500_000])
        deadline = time.monotonic() + LONG
        while not (into / "a").is_file():
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        growing.write(deb[1_500_000:])
    thread.join()
    assert found == [True]
    assert (into / "b").read_bytes() == b"b" * 1_000_000
    assert (into / "su").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "came",
    [
        pytest.param(lambda deb: deb[:-1] + bytes([deb[-1] ^ 1]), id="damaged"),
        pytest.param(lambda deb: deb[: len(deb) // 2], id="cut"),
        pytest.param(lambda deb: b"\0" * len(deb), id="something else"),
        pytest.param(lambda _: b"", id="nothing"),
    ],
)
def test_nothing_is_left_of_what_is_not_the_right_one(
    tmp_path: Path, into: Path, root: Path, deb: bytes, came: object
) -> None:
    assert callable(came)
    (tmp_path / "x.deb").write_bytes(came(deb))
    assert not early.unpack(tmp_path / "x.deb", package(deb), into, root, over())
    assert list(into.iterdir()) == []


def test_a_file_that_never_came_is_waited_for_no_longer_than_the_download(
    tmp_path: Path, into: Path, root: Path, deb: bytes
) -> None:
    assert not early.unpack(tmp_path / "x.deb", package(deb), into, root, over())


def test_without_dpkg_nothing_is_unpacked_early(tmp_path: Path, into: Path, deb: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(deb)
    bare = tmp_path / "root"
    (bare / "usr").mkdir(parents=True)
    assert not early.unpack(tmp_path / "x.deb", package(deb), into, bare, over())
    assert list(into.iterdir()) == []


def test_what_takes_too_much_room_is_given_up(
    tmp_path: Path, into: Path, root: Path, deb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = iter((9e9, 9e9, 4e9))
    monkeypatch.setattr(early, "_free", lambda _: next(rooms))
    (tmp_path / "x.deb").write_bytes(deb)
    assert not early.unpack(tmp_path / "x.deb", package(deb), into, root, over())
    assert list(into.iterdir()) == []
