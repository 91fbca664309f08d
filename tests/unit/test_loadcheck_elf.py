"""What the loader says of a file that is no module, or not a whole one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.loadcheck_kernels import (
    NEW,
    OLD,
    SIGNATURE,
    THIS,
    dmesg,
    facts_for,
    in_section,
    put,
)

from lkm.loadcheck import KernelFacts, Verdict, check
from lkm.loadcheck.changes import Change
from lkm.loadcheck.image import Image

COUNT = Image(NEW, (7, 3)).header.shnum
MODINFO = Image(NEW, (7, 3)).named(".modinfo", allocated=False)


@pytest.fixture
def new(tmp_path: Path) -> KernelFacts:
    """A 7.3 without."""
    return facts_for(tmp_path, NEW)


@pytest.mark.parametrize(
    ("damage", "version", "line"),
    [
        (lambda d: b"", (6, 12), None),
        (lambda d: d[:63], (6, 12), None),
        (lambda d: put(d, 1, b"elf"), (6, 12), "Invalid ELF header magic: != \x7fELF"),
        (lambda d: put(d, 1, b"elf"), (5, 10), "Module has invalid ELF structures"),
        (lambda d: put(d, 16, b"\2"), (6, 12), "Invalid ELF header type: 2 != 1"),
        (lambda d: put(d, 18, b"\xb7"), (6, 12), "Invalid architecture in ELF header: 183"),
        (lambda d: put(d, 58, b"\x28"), (6, 12), "Invalid ELF section header size"),
        (lambda d: d[: len(d) // 2], (6, 12), "Invalid ELF section header overflow"),
        (
            lambda d: put(d, 62, b"\0\0"),
            (6, 12),
            f"Invalid ELF section name index: 0 || e_shstrndx (0) >= e_shnum ({COUNT})",
        ),
        (
            lambda d: in_section(d, ".modinfo", 0, "I", 1 << 20),
            (6, 14),
            f"Invalid ELF section name in module (section {MODINFO} type 1)",
        ),
        (
            lambda d: in_section(d, ".symtab", 4, "I", 1),
            (6, 12),
            "everything: module has no symbols (stripped?)",
        ),
        (
            lambda d: in_section(d, THIS, 0, "I", 1),
            (6, 1),
            "everything: No module found in object",
        ),
        (
            lambda d: in_section(d, THIS, 0, "I", 1),
            (6, 12),
            f"module everything: Only one {THIS} section must exist.",
        ),
        (
            lambda d: in_section(d, THIS, 0, "I", 1),
            (6, 14),
            f"module everything: Exactly one {THIS} section must exist.",
        ),
        (
            lambda d: in_section(d, THIS, 0, "I", 1),
            (6, 12, 117),
            f"module everything: Exactly one {THIS} section must exist.",
        ),
        (
            lambda d: in_section(d, ".strtab", 4, "I", 1),
            (6, 12, 117),
            "Invalid ELF symbol string table type: 1",
        ),
        (
            lambda d: in_section(d, ".shstrtab", 4, "I", 1),
            (7, 0),
            "Invalid ELF section name table type: 1",
        ),
        (
            lambda d: in_section(d, THIS, 32, "Q", 64),
            (6, 12),
            f"module everything: {THIS} section size must match the kernel's built struct module size"
            " at run time",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_the_series_own_words(
    new: KernelFacts, damage: Callable[[bytes], bytes], version: tuple[int, ...], line: str | None
) -> None:
    report = check(damage(NEW), replace(new, version=version))
    assert (report.verdict, report.errno) == (Verdict.REFUSED, errno.ENOEXEC)
    assert dmesg(report) == ([line] if line else [])


@pytest.mark.parametrize("version", [(6, 12, 116), (6, 14)])
def test_before_tables_of_names_were_typed_any_type_does(
    new: KernelFacts, version: tuple[int, ...]
) -> None:
    kernel = replace(new, version=version)
    assert check(in_section(NEW, ".strtab", 4, "I", 1), kernel).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((6, 11, 200), False),
        ((6, 12, 79), False),
        ((6, 12, 80), True),
        ((6, 12, 117), True),
        ((6, 13, 99), False),
        ((6, 19), False),
        ((7, 0), True),
        ((7, 3, 4), True),
    ],
)
def test_a_change_is_in_its_release_and_in_the_stable_ones_that_took_it(
    version: tuple[int, ...], expected: bool
) -> None:
    assert Change((7, 0), ((6, 1, 168), (6, 12, 80))).is_in(version) is expected


@pytest.mark.parametrize(
    ("version", "expected"), [((6, 12, 79), Verdict.UNKNOWN), ((6, 12, 80), Verdict.REFUSED)]
)
def test_a_symbol_in_no_section_is_refused_where_that_is_checked(
    new: KernelFacts, version: tuple[int, ...], expected: Verdict
) -> None:
    image = Image(NEW, (7, 3))
    table = image.sections[image.of_type(2)[0]].offset
    row = next(i for i in range(image.symbol_count) if image.symbol_at(i)[0])
    strayed = put(NEW, table + row * 24 + 6, b"\x00\x10")
    assert check(strayed, replace(new, version=version)).verdict is expected


def test_cut_off_anywhere_it_is_refused(new: KernelFacts) -> None:
    for size in range(0, len(NEW), 97):
        assert check(NEW[:size], new).errno == errno.ENOEXEC


def test_where_the_kernel_checks_nothing_nothing_is_foretold(new: KernelFacts) -> None:
    shrunk = in_section(NEW, THIS, 32, "Q", 64)
    report = check(shrunk, replace(new, version=(6, 1)))
    assert (report.verdict, report.errno) == (Verdict.UNKNOWN, None)


@settings(max_examples=400)
@given(
    st.sampled_from([OLD, NEW, NEW + SIGNATURE]),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=9)), max_size=6),
    st.sampled_from([(5, 10), (6, 1), (6, 12), (6, 14), (7, 3)]),
)
def test_whatever_the_bytes_are_there_is_a_report(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    patches: list[tuple[int, bytes]],
    version: tuple[int, ...],
) -> None:
    facts = facts_for(tmp_path_factory.getbasetemp(), OLD)
    for at, raw in patches:
        data = put(data, at % len(data), raw)
    report = check(data, replace(facts, version=version))
    assert (report.errno is None) == (report.verdict is not Verdict.REFUSED)
    report.to_dict()
