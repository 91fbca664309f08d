"""lkm.toml beside a source: its tables, and the packages of its build."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm import project, source
from lkm.errors import UsageError
from lkm.project import Packages


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "Kbuild").write_text("obj-m := hello.o\n")
    (tmp_path / "hello.c").write_text("int x;\n")
    return tmp_path


def packages(directory: Path, text: str) -> Packages:
    (directory / project.FILE).write_text(text)
    return project.build_packages(source.find(directory))


def test_without_a_file_there_are_none(directory: Path) -> None:
    assert project.build_packages(source.find(directory)) == Packages()


def test_packages_and_alternatives(directory: Path) -> None:
    text = (
        '[build]\npackages = ["libxtables-dev", "pkgconf | pkg-config"]\noptional = ["udev"]\n'
        '[pytest]\nkernel = "6.1"\n'
    )
    assert packages(directory, text) == Packages(
        ("libxtables-dev", "pkgconf | pkg-config"), ("udev",)
    )
    assert project.table(directory / project.FILE, "pytest") == {"kernel": "6.1"}


def test_a_single_file_has_none(directory: Path) -> None:
    (directory / project.FILE).write_text('[build]\npackages = ["bc"]\n')
    assert project.build_packages(source.find(directory / "hello.c")) == Packages()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[build", "cannot be read"),
        ("[bild]\n", "and not bild"),
        ("build = 1\n", "a value called build"),
        ("[build]\npackage = []\n", "unknown key 'package'"),
        ('[build]\npackages = "bc"\n', "not a list"),
        ('[build]\npackages = ["-o Dir::Etc=/x"]\n', "not a list"),
        ('[build]\npackages = ["Bc"]\n', "not a list"),
        ('[build]\npackages = ["a-b|b-c"]\n', "not a list"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_file(
    directory: Path, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        packages(directory, text)
    assert str(directory / project.FILE) in str(caught.value)
