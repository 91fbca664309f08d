"""What the reader says about kernel objects, those that kbuild made and those that nobody should have."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from lkm import ko
from lkm.errors import UsageError
from lkm.ko import compression

DATA = Path(__file__).parent.parent / "data" / "ko"
OLD = DATA / "everything-5.10.ko"
NEW = DATA / "everything-7.3.ko"
BOTH = pytest.mark.parametrize("path", [OLD, NEW], ids=["5.10", "7.3"])


def parameter(path: Path, name: str) -> ko.Parameter:
    return next(each for each in ko.read(path).parameters if each.name == name)


@BOTH
def test_modinfo_facts_come_under_their_names(path: Path) -> None:
    module = ko.read(path)
    assert module.name == "everything"
    assert (module.machine, module.elf_class) == ("EM_X86_64", 64)
    assert module.license == "GPL"
    assert module.description == "One of everything"
    assert set(module.authors) == {"The first author", "The second author"}
    assert module.version == "1.2"
    assert module.aliases == ("everything-else",)
    assert module.firmware == ("everything.bin",)
    assert module.softdeps == ("pre: crc16 post: crc8",)
    assert module.depends == ()
    assert module.srcversion
    assert not module.intree
    assert module.retpoline
    assert module.signature is None
    assert (module.has_init, module.has_exit) == (True, True)


def test_vermagic_is_taken_apart() -> None:
    module = ko.read(OLD)
    assert module.release == "5.10.0-32-cloud-amd64"
    assert module.series == (5, 10)
    assert module.vermagic_flags == ("SMP", "mod_unload", "modversions")


def test_exports_of_5_10_have_crcs_and_sections_by_licence() -> None:
    exports = {each.name: each for each in ko.read(OLD).exports}
    assert exports == {
        "everything_plain": ko.Export("everything_plain", gpl=False, crc=0x34F52A9F),
        "everything_gpl": ko.Export("everything_gpl", gpl=True, crc=0xB45EAA9F),
        "everything_spaced": ko.Export("everything_spaced", True, "EVERYTHING", 0xA1473716),
    }


def test_exports_of_7_3_are_gpl_by_their_flag() -> None:
    exports = {each.name: each for each in ko.read(NEW).exports}
    assert exports == {
        "everything_plain": ko.Export("everything_plain", gpl=False),
        "everything_gpl": ko.Export("everything_gpl", gpl=True),
        "everything_spaced": ko.Export("everything_spaced", gpl=True, namespace="EVERYTHING"),
    }


@BOTH
def test_imports_are_the_undefined_symbols(path: Path) -> None:
    module = ko.read(path)
    assert {"param_array_ops", "param_set_int", "__fentry__"} < set(module.imports)
    assert "everything_plain" not in module.imports
    assert module.weak_imports == ("everything_maybe",)


def test_versions_cover_every_import_that_must_resolve() -> None:
    module = ko.read(OLD)
    needed = set(module.imports) - set(module.weak_imports)
    assert set(module.versions) == needed | {"module_layout"}
    assert module.versions["module_layout"] == 0x921BC7A2
    assert ko.read(NEW).versions == {}


@pytest.mark.parametrize(
    ("name", "kernel_type", "perm", "default"),
    [
        ("a_byte", "byte", 0o444, "7"),
        ("a_short", "short", 0o644, "-3"),
        ("a_ushort", "ushort", 0o600, "65535"),
        ("an_int", "int", 0, "-42"),
        ("a_uint", "uint", 0o444, "4000000000"),
        ("a_long", "long", 0o444, "-1"),
        ("a_ulong", "ulong", 0o444, "1099511627776"),
        ("a_ullong", "ullong", 0o444, "18446744073709551615"),
        ("a_hexint", "hexint", 0o444, "0x00beef"),
        ("a_charp", "charp", 0o444, "set"),
        ("a_null_charp", "charp", 0o444, "(null)"),
        ("a_bool", "bool", 0o644, "Y"),
        ("an_invbool", "invbool", 0o444, "N"),
        ("a_bint", "bint", 0o444, "1"),
        ("a_string", "string", 0o644, "in place"),
        ("numbers", "int", 0o444, "1,2,3,4"),
        ("words", "charp", 0o444, "one"),
        ("switches", "bool", 0, ""),
    ],
)
@BOTH
def test_a_parameter_has_its_type_mode_and_default(
    path: Path, name: str, kernel_type: str, perm: int, default: str
) -> None:
    found = parameter(path, name)
    assert (found.kernel_type, found.perm, found.default) == (kernel_type, perm, default)


@BOTH
def test_parameters_come_in_the_order_of_the_source(path: Path) -> None:
    names = [each.name for each in ko.read(path).parameters]
    assert names[:3] == ["a_byte", "a_short", "a_ushort"]
    assert names[-2:] == ["even", "poke"]
    assert len(names) == 21


@BOTH
def test_limits_come_from_the_parameter_table(path: Path) -> None:
    words = parameter(path, "words")
    assert (words.array, words.max_count, words.size, words.type) == (True, 3, 8, "array of charp")
    text = parameter(path, "a_string")
    assert (text.array, text.max_length, text.size) == (False, 15, 16)
    assert text.description == "Up to 15 bytes"
    assert parameter(path, "an_int").description == "A number: the answer, negated"


@BOTH
def test_operations_of_the_modules_own_are_no_kernel_type_whatever_parmtype_says(
    path: Path,
) -> None:
    even, poke = parameter(path, "even"), parameter(path, "poke")
    assert (even.type, even.kernel_type, even.noarg) == ("int", None, False)
    assert (poke.type, poke.kernel_type, poke.noarg, poke.perm) == ("", None, True, 0o200)
    assert parameter(path, "an_int_unsafe").unsafe
    assert not parameter(path, "an_int").unsafe


@BOTH
def test_facts_survive_json(path: Path) -> None:
    module = ko.parse(path.read_bytes() + (DATA / "signature.bin").read_bytes(), path.name)
    again = ko.KernelObject.from_dict(json.loads(json.dumps(module.to_dict())))
    assert again == module
    assert again.signature is not None


def test_facts_from_json_need_none_of_the_readers() -> None:
    program = "import sys, lkm.ko; print('elftools' in sys.modules, 'lzma' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


def test_the_signature_tells_its_signer() -> None:
    signed = ko.parse(OLD.read_bytes() + (DATA / "signature.bin").read_bytes(), "x.ko").signature
    assert signed is not None
    assert signed.id_type == "PKCS#7"
    assert signed.signer == "Build time autogenerated kernel key"
    assert signed.key_id == "0f03aa1a7a5ceacd460541ba84277a99b391edf0"
    assert (signed.hash, signed.algorithm) == ("sha256", "rsa")
    assert signed.size == (DATA / "signature.bin").stat().st_size
    assert len(bytes.fromhex(signed.value or "")) == 512


def test_a_damaged_signature_is_still_one_and_says_nothing() -> None:
    tail = bytearray((DATA / "signature.bin").read_bytes())
    tail[0] ^= 0xFF
    signed = ko.parse(OLD.read_bytes() + tail, "x.ko").signature
    assert signed is not None
    assert (signed.signer, signed.value) == (None, None)


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".gz": gzip.compress,
}


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_objects_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"everything.ko{suffix}"
    path.write_bytes(PACK[suffix](NEW.read_bytes()))
    assert ko.read_image(path) == NEW.read_bytes()
    assert ko.read(path) == ko.read(NEW)


@pytest.mark.parametrize("suffix", PACK)
def test_what_unpacks_to_too_much_is_refused(suffix: str) -> None:
    zeros = bytes(4 << 20)
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        compression.decompress(PACK[suffix](zeros), "bomb.ko", limit=1 << 20)


@pytest.mark.parametrize("suffix", PACK)
def test_a_little_that_unpacks_to_much_is_refused_though_within_the_limit(suffix: str) -> None:
    with pytest.raises(UsageError, match=r"^bomb\.ko is larger than 32 MiB when unpacked$"):
        compression.decompress(PACK[suffix](bytes(33 << 20)), "bomb.ko")


def test_much_that_unpacks_to_more_is_read() -> None:
    data = os.urandom(1 << 20) * 40
    assert compression.decompress(PACK[".zst"](data), "large.ko") == data


@pytest.mark.parametrize("suffix", PACK)
def test_a_cut_off_archive_is_refused(suffix: str) -> None:
    packed = PACK[suffix](NEW.read_bytes())
    for end in range(7, len(packed), 97):
        with pytest.raises(UsageError, match=r"damaged|truncated|empty|not a kernel object"):
            ko.parse(compression.decompress(packed[:end], "x.ko"), "x.ko")


def header(**changes: int) -> bytes:
    """The test object with fields of its ELF header changed."""
    data = bytearray(NEW.read_bytes())
    at = {"class": (4, "B"), "type": (16, "<H"), "machine": (18, "<H"), "shstrndx": (62, "<H"),
          "shentsize": (58, "<H"), "shnum": (60, "<H"), "shoff": (40, "<Q")}  # fmt: skip
    for name, value in changes.items():
        struct.pack_into(at[name][1], data, at[name][0], value)
    return bytes(data)


def renamed(section: bytes, to: bytes) -> bytes:
    """The test object with a section's name overwritten."""
    assert len(section) == len(to)
    head, found, tail = NEW.read_bytes().rpartition(section + b"\0")
    assert found
    return head + to + b"\0" + tail


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"x\.ko is not a kernel object: it is empty"),
        (b"#!/bin/sh\n", r"starts with b'#!/bin/s', not ELF"),
        (b"\x7fELF", "truncated: the ELF identification ends at byte 16 and the file has 4"),
        (NEW.read_bytes()[:40], "truncated: the ELF header ends at byte 64 and the file has 40"),
        (NEW.read_bytes()[:-1], r"truncated: its \d+ section headers end at byte 18968 and"),
        (header(**{"class": 3}), "wrong class 3"),
        (header(**{"class": 1}), "damaged|wrong class|not relocatable|truncated"),
        (header(machine=3), "wrong class, 64-bit for EM_386"),
        (header(type=2), "it is an executable, not relocatable"),
        (header(type=3), "it is a shared object, not relocatable"),
        (header(shnum=0), "damaged: 0 sections"),
        (header(shentsize=32), "sections of 32 bytes a header"),
        (header(shstrndx=0), "no section names"),
        (header(shstrndx=60000), "no section names"),
        (header(shoff=1 << 63), "truncated"),
        (renamed(b".modinfo", b".modinfx"), r"it has no \.modinfo section"),
        (
            renamed(b".gnu.linkonce.this_module", b".gnu.linkonce.that_module"),
            r"no \.gnu\.linkonce\.this_module section",
        ),
    ],
)
def test_what_is_no_kernel_object_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ko.parse(data, "x.ko")


def test_a_section_that_reaches_beyond_the_file_is_named() -> None:
    data = bytearray(NEW.read_bytes())
    table = struct.unpack_from("<Q", data, 40)[0]
    struct.pack_into("<Q", data, table + 64 + 32, 1 << 40)
    with pytest.raises(
        UsageError, match=r"truncated: section __ksymtab ends at byte 1099511627\d+"
    ):
        ko.parse(bytes(data), "x.ko")


def test_an_object_without_a_symbol_table_says_how_to_strip() -> None:
    data = bytearray(NEW.read_bytes())
    table = struct.unpack_from("<Q", data, 40)[0]
    count = struct.unpack_from("<H", data, 60)[0]
    for number in range(count):
        at = table + number * 64 + 4
        if struct.unpack_from("<I", data, at)[0] == 2:
            struct.pack_into("<I", data, at, 1)
    with pytest.raises(UsageError, match="no symbol table") as caught:
        ko.parse(bytes(data), "x.ko")
    assert "--strip-debug" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "nul"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a\0b" if kind == "nul" else "x.ko")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot read"):
        ko.read(path)


def test_the_name_falls_back_to_modinfo_and_then_to_the_file() -> None:
    data = bytearray(NEW.read_bytes())
    at = data.rindex(b"everything" + bytes(46))
    data[at : at + 10] = bytes(10)
    assert ko.parse(bytes(data), "my-file.ko").name == "everything"
    data[data.index(b"\0name=everything\0") + 1] = ord("g")
    assert ko.parse(bytes(data), "my-file.ko.xz").name == "my_file"
