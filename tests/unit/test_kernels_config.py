from __future__ import annotations

from pathlib import Path

import pytest

from lkm import config
from lkm.errors import UsageError


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LKM_BUILD_TIMEOUT", "LKM_DEBIAN_MIRROR", "LKM_KERNEL"):
        monkeypatch.delenv(variable, raising=False)


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert config.load(tmp_path / "none" / "lkm.toml") == config.Config()


def test_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "lkm.toml"
    file.write_text('mirror = "http://mirror.example/debian"\nkernel = "6.1"\n')
    assert config.load(file) == config.Config("http://mirror.example/debian", "6.1")


def test_the_environment_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lkm.toml"
    file.write_text('mirror = "http://mirror.example/debian"\nkernel = "6.1"\n')
    monkeypatch.setenv("LKM_KERNEL", "6.12-rt")
    assert config.load(file) == config.Config("http://mirror.example/debian", "6.12-rt")


def test_the_time_for_a_build_is_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lkm.toml"
    file.write_text('build_timeout = "1800"\n')
    assert config.load(file).build_timeout == 1800.0
    for wrong in ("0", "-1", "soon", "inf", "nan"):
        monkeypatch.setenv("LKM_BUILD_TIMEOUT", wrong)
        with pytest.raises(UsageError, match=f"'{wrong}', not seconds"):
            config.load(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mirror = ", "not valid TOML"),
        ('miror = "x"', "unknown key 'miror'"),
        ("kernel = 6.1", "kernel is 6.1, not a string"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "lkm.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        config.load(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lkm.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        config.load(file)
