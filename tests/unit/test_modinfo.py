"""The text of modinfo(8), as kmod prints it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lkm import ko
from lkm.ko import modinfo

DATA = Path(__file__).parent.parent / "data" / "ko"

MODULE = ko.KernelObject(
    name="demo",
    machine="EM_X86_64",
    elf_class=64,
    modinfo=(
        ("license", "GPL"),
        ("a_key_of_18_chars_", "x"),
        ("parmtype", "first:int"),
        ("parm", "second:Words: many"),
        ("parm", "first:A number"),
        ("parmtype", "third:bool"),
        ("depends", ""),
    ),
)


def test_parameters_come_last_first_and_after_everything_else() -> None:
    assert modinfo.render(MODULE, "/m/demo.ko") == (
        "filename:       /m/demo.ko\n"
        "license:        GPL\n"
        "a_key_of_18_chars_:   x\n"
        "depends:        \n"
        "parm:           third:bool\n"
        "parm:           second:Words: many\n"
        "parm:           first:A number (int)\n"
    )


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("license", "GPL\n"),
        ("filename", "demo.ko\n"),
        ("depends", "\n"),
        ("missing", ""),
        ("parm", "third: (bool)\nsecond:Words: many\nfirst:A number (int)\n"),
    ],
)
def test_a_field_is_its_bare_values(field: str, text: str) -> None:
    assert modinfo.render(MODULE, "demo.ko", field=field) == text


@pytest.mark.parametrize("flags", [(), ("-0",), ("-p",), ("-F", "author"), ("-F", "signature")])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("series", ["5.10", "7.3"])
def test_the_text_is_that_of_kmod(
    tmp_path: Path, series: str, signed: bool, flags: tuple[str, ...]
) -> None:
    program = shutil.which("modinfo", path="/sbin:/usr/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip("kmod is not installed")
    path = tmp_path / "everything.ko"
    tail = (DATA / "signature.bin").read_bytes() if signed else b""
    path.write_bytes((DATA / f"everything-{series}.ko").read_bytes() + tail)
    theirs = subprocess.run([program, *flags, str(path)], capture_output=True, check=True).stdout
    field = flags[1] if flags[:1] == ("-F",) else "parm" if flags == ("-p",) else None
    separator = "\0" if flags == ("-0",) else "\n"
    ours = modinfo.render(ko.read(path), str(path), field=field, separator=separator)
    assert ours == theirs.decode()
