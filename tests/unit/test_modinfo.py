"""The text of modinfo(8), as kmod prints it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
        "a_key_of_18_chars_:x\n"
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


def object_with_signature(name: str) -> ko.KernelObject:
    tail = (DATA / f"signature-{name}.bin").read_bytes()
    return ko.parse((DATA / "everything-7.3.ko").read_bytes() + tail, "x.ko")


@pytest.mark.parametrize(
    ("name", "signer"),
    [("no-common-name", "No common name"), ("two-common-names", "The first"), ("key-id", None)],
)
def test_the_signer_is_its_common_name_or_its_last(name: str, signer: str | None) -> None:
    module = object_with_signature(name)
    assert module.signature
    assert module.signature.signer == signer
    assert (module.signature.hash, module.signature.algorithm) == ("sha384", "ecdsa")
    text = modinfo.render(module, "x.ko", field="signer")
    assert text == ("" if signer is None else f"{signer}\n")


def lkm_modinfo(*words: str, encoding: str = "utf-8:strict") -> bytes:
    """What the verb prints where the locale takes only this encoding."""
    argv = [sys.executable, "-X", "utf8=0", "-m", "lkm", "modinfo", *words]
    env = {"PYTHONIOENCODING": encoding}
    return subprocess.run(argv, capture_output=True, env=env, check=True, timeout=60).stdout


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_the_authors_bytes_come_out_as_they_are_in_the_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.ko"
    image = (DATA / "everything-7.3.ko").read_bytes()
    path.write_bytes(image.replace(b"The first author", b"Jos\xe9 \xe2\x82\xac 2 <j@b>"))
    printed = lkm_modinfo("-F", "author", str(path), encoding=encoding)
    assert printed == b"The second author\nJos\xe9 \xe2\x82\xac 2 <j@b>\n"
    author = json.loads(lkm_modinfo("--json", str(path)))["authors"][1]
    assert author == "Jos\udce9 \u20ac 2 <j@b>"


def test_a_module_cannot_drive_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "x.ko"
    image = (DATA / "everything-7.3.ko").read_bytes()
    path.write_bytes(image.replace(b"The first author", b"\x1b[2J\x1b]0;hijacks\x07"))
    master, slave = os.openpty()
    argv = [sys.executable, "-m", "lkm", "modinfo", "-F", "author", str(path)]
    subprocess.run(argv, stdout=slave, check=True, timeout=60)
    os.close(slave)
    shown = os.read(master, 4096)
    os.close(master)
    assert shown.splitlines() == [b"The second author", rb"\x1b[2J\x1b]0;hijacks\x07"]


@pytest.mark.parametrize(
    ("flags", "field", "separator"),
    [
        ((), None, "\n"),
        (("-0",), None, "\0"),
        (("-p",), "parm", "\n"),
        (("-0", "-F", "alias"), "alias", "\0"),
    ],
)
def test_the_verbs_flags_choose_field_and_separator(
    flags: tuple[str, ...], field: str | None, separator: str
) -> None:
    path = DATA / "everything-5.10.ko"
    text = modinfo.render(ko.read(path), str(path), field=field, separator=separator)
    assert lkm_modinfo(*flags, str(path)).decode() == text


def test_json_says_by_name_what_modinfo_and_the_tables_say() -> None:
    document = json.loads(lkm_modinfo("--json", str(DATA / "everything-5.10.ko")))
    said = {key: document[key] for key in (
        "name", "license", "description", "version", "vermagic", "release", "vermagic_flags", "depends",
        "softdeps", "aliases", "firmware", "namespaces", "intree", "retpoline", "signature",
    )}  # fmt: skip
    assert said == {
        "name": "everything",
        "license": "GPL",
        "description": "One of everything",
        "version": "1.2",
        "vermagic": "5.10.0-32-cloud-amd64 SMP mod_unload modversions ",
        "release": "5.10.0-32-cloud-amd64",
        "vermagic_flags": ["SMP", "mod_unload", "modversions"],
        "depends": [],
        "softdeps": ["pre: crc16 post: crc8"],
        "aliases": ["everything-else"],
        "firmware": ["everything.bin"],
        "namespaces": [],
        "intree": False,
        "retpoline": True,
        "signature": None,
    }
    numbers = next(each for each in document["parameters"] if each["name"] == "numbers")
    assert (numbers["c_type"], numbers["kernel_type"]) == ("int", "int")
    assert (numbers["max_count"], numbers["perm"], numbers["default"]) == (4, 0o444, "1,2,3,4")
    assert document["versions"]["module_layout"] == 0x921BC7A2
