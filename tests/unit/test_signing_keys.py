"""Keys for modules: which of the caller's are taken, and the development key."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lkm import signing
from lkm.errors import HostError, UsageError
from lkm.kernels.kernel import Toolchain
from lkm.signing import Key, keys

PKCS8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
RFC1421 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    monkeypatch.delenv("KBUILD_SIGN_PIN", raising=False)
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "key.x509").write_text("-----BEGIN CERTIFICATE-----\n")
    return Key(tmp_path / "key.pem", tmp_path / "key.x509")


@pytest.fixture
def tools(tmp_path: Path) -> Toolchain:
    return Toolchain("trixie", tmp_path / "root", "gcc-14", "0")


@pytest.mark.parametrize("private", [PKCS8, RFC1421])
def test_a_key_with_a_passphrase_is_refused_without_one(key: Key, private: str) -> None:
    key.private.write_text(private)
    with pytest.raises(UsageError, match="KBUILD_SIGN_PIN"):
        signing.key_of(key.private, key.certificate)


@pytest.mark.parametrize("missing", ["private", "certificate"])
def test_a_key_that_is_not_there_is_refused_by_name(key: Key, missing: str) -> None:
    path: Path = getattr(key, missing)
    path.unlink()
    with pytest.raises(UsageError, match=re.escape(str(path))):
        signing.key_of(key.private, key.certificate)


def test_a_key_that_only_roots_privilege_opens_is_refused(
    key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(key.private, 65534, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    key.private.chmod(0o600)
    with pytest.raises(UsageError, match="without root's privilege"):
        signing.key_of(key.private, key.certificate)


@pytest.mark.parametrize(
    ("head", "is_der"),
    [(b"\x30\x82\x03", True), (b"\x30\x81\xf0", True), (b"-----BEGIN", False), (b"0x", False), (b"", False)],
)  # fmt: skip
def test_der_and_pem_are_told_apart_as_sign_file_does(
    tmp_path: Path, head: bytes, is_der: bool
) -> None:
    path = tmp_path / "certificate"
    path.write_bytes(head)
    assert keys._is_der(path) is is_der


# The development key


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "signing"


@pytest.mark.parametrize("missing", ["lkm-dev.pem", "lkm-dev.der"])
def test_half_a_development_key_is_never_replaced(
    home: Path, tools: Toolchain, missing: str
) -> None:
    home.mkdir(parents=True)
    for name in {"lkm-dev.pem", "lkm-dev.der"} - {missing}:
        (home / name).write_text("precious")
    with pytest.raises(HostError, match=missing):
        signing.development_key(tools)
    assert [path.read_text() for path in home.iterdir()] == ["precious"]


def test_a_development_key_that_is_there_is_taken(home: Path, tools: Toolchain) -> None:
    home.mkdir(parents=True)
    for name in ("lkm-dev.pem", "lkm-dev.der"):
        (home / name).touch()
    found = signing.development_key(tools)
    assert found == Key(home / "lkm-dev.pem", home / "lkm-dev.der", made=False)


def test_no_place_for_a_development_key_is_an_error_with_the_way_out(
    home: Path, tools: Toolchain
) -> None:
    home.parent.write_text("a file")
    with pytest.raises(HostError) as refused:
        signing.development_key(tools)
    assert refused.value.hint is not None
    assert "LKM_DATA_DIR" in refused.value.hint
