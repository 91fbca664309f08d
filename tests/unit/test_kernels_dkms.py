"""Packages as source arguments: what is one, and which directory of it is the module source."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.errors import UsageError
from lkm.kernels import dkms


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an unpacked package of trixie is."""
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    return tmp_path / "dkms/trixie-pack-dkms/root"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("PACKAGE_NAME=x\n")
    return path.parent


@pytest.mark.parametrize(
    ("text", "is_package"),
    [
        ("v4l2loopback-dkms", True),
        ("v4l2loopback-dkms@sid", True),
        ("ezurio-qcacld-2.0-dkms", True),
        ("evdi@trixie-backports", True),
        ("v4l2loopback", False),
        ("./v4l2loopback-dkms", False),
        ("V4L-dkms", False),
        ("a/b-dkms", False),
        ("x.ko", False),
        (".", False),
    ],
)
def test_what_names_a_package(text: str, is_package: bool) -> None:
    assert dkms.names_package(text) is is_package


def test_a_directory_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pack-dkms").mkdir()
    assert not dkms.names_package("pack-dkms")
    assert dkms.located("pack-dkms") == Path("pack-dkms")


def test_a_package_is_its_source_directory(home: Path) -> None:
    source = put(home / "usr/src/pack-1.0/dkms.conf")
    assert dkms.located("pack-dkms") == dkms.package("pack-dkms@trixie") == source


def test_a_dkms_conf_elsewhere_in_the_package_is_found(home: Path) -> None:
    source = put(home / "usr/share/pack/dkms.conf")
    assert dkms.package("pack-dkms") == source


def test_several_sources_in_a_package_are_named(home: Path) -> None:
    first, second = put(home / "usr/src/a-1/dkms.conf"), put(home / "usr/src/b-1/dkms.conf")
    with pytest.raises(UsageError, match="has 2 module sources") as caught:
        dkms.package("pack-dkms")
    assert caught.value.evidence == (str(first), str(second))


def test_a_package_without_a_source_is_refused(home: Path) -> None:
    home.mkdir(parents=True)
    with pytest.raises(UsageError, match="pack-dkms of trixie has no module source"):
        dkms.package("pack-dkms")


def test_a_suite_that_there_is_not_is_refused_before_anything_is_fetched(home: Path) -> None:
    with pytest.raises(UsageError, match="no suite 'squeeze'") as caught:
        dkms.package("pack-dkms@squeeze")
    assert "trixie" in str(caught.value.hint)
