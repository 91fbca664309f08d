"""Stubs in an object, the tables, and what lkm_interpose says of them."""

from __future__ import annotations

import io
import re
import struct
from enum import IntEnum
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from lkm import ko
from lkm.errors import UsageError
from lkm.interpose import rules
from lkm.interpose.choice import choose
from lkm.interpose.fallible import FALLIBLE
from lkm.interpose.names import spoken
from lkm.interpose.pairs import FAMILIES
from lkm.interpose.report import PREFIX, read, without
from lkm.interpose.rewrite import GATE, call_sites, interpose
from lkm.interpose.rules import Fail, Flag, Plan, Rule
from lkm.log import Record
from lkm.problems import ProblemKind, find

DATA = Path(__file__).parents[1] / "data"
OBJECTS = sorted((DATA / "ko").glob("everything-*.ko"))
MODULE = Path(rules.__file__).parent / "module"
EXPORTED = {
    line.split()[0]: line.split()[1:]
    for line in (DATA / "interpose" / "exported.txt").read_text().splitlines()
}
NOW = (6, 12)


def stubbed(path: Path) -> tuple[bytes, tuple[Rule, ...]]:
    data = ko.read_image(path)
    names = ko.parse(data, path.name).imports
    made = interpose(
        data, path.name, [Rule(name) for name in names if name != "__fentry__"], gate_crc=7
    )
    return made.image, made.rules


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_every_use_of_a_function_is_its_stubs(path: Path) -> None:
    image, chosen = stubbed(path)
    names = {rule.name for rule in chosen}
    assert names
    file = ELFFile(io.BytesIO(image))
    for table in file.iter_sections():
        if not isinstance(table, RelocationSection) or "debug" in table.name:
            continue
        symbols = file.get_section(table["sh_link"])
        assert isinstance(symbols, SymbolTableSection)
        used = {symbols.get_symbol(row["r_info_sym"]).name for row in table.iter_relocations()}
        if table.name == ".rela.text.lkm":
            assert used == {*names, GATE, ""}
        else:
            assert not used & names


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_an_object_keeps_its_facts_and_gets_a_version_of_the_gate(path: Path) -> None:
    image, _ = stubbed(path)
    before, after = ko.read(path), ko.parse(image, path.name)
    assert after.modinfo == before.modinfo
    assert after.signature is None
    assert set(after.imports) == {*before.imports, GATE}
    if before.versions:
        assert after.versions == {**before.versions, GATE: 7}


def test_a_stub_leads_to_its_rule_and_its_function() -> None:
    image, chosen = stubbed(OBJECTS[0])
    file = ELFFile(io.BytesIO(image))
    table = file.get_section_by_name(".rela.text.lkm")
    assert isinstance(table, RelocationSection)
    rows = [(row["r_offset"], row["r_addend"]) for row in table.iter_relocations()]
    assert rows[3:6] == [(39, rules.RULE.size - 4), (46, -4), (51, -4)]
    section = file.get_section_by_name(".rodata.lkm")
    assert section
    packed = section.data()
    assert [rules.RULE.unpack_from(packed, n * rules.RULE.size)[9] for n in range(3)] == [0, 1, 2]
    assert len(packed) == rules.RULE.size * len(chosen)


def test_every_rule_says_what_is_to_be_done() -> None:
    data = ko.read_image(OBJECTS[0])
    chosen = [Rule(name) for name in ko.parse(data, "x").imports if name != "__fentry__"]
    made = interpose(data, "x", chosen, Plan(fail=3, record=True), gate_crc=None)
    section = ELFFile(io.BytesIO(made.image)).get_section_by_name(".rodata.lkm")
    assert section
    assert {row[10:12] for row in rules.RULE.iter_unpack(section.data())} == {(3, 1)}


def test_a_module_of_another_architecture_is_refused() -> None:
    data = bytearray(ko.read_image(OBJECTS[0]))
    struct.pack_into("<H", data, 18, 183)
    with pytest.raises(UsageError, match="EM_AARCH64: calls can be watched on x86_64 only"):
        interpose(bytes(data), "arm.ko", [], gate_crc=None)


def test_a_truncated_object_is_refused() -> None:
    with pytest.raises(UsageError, match="truncated"):
        interpose(ko.read_image(OBJECTS[0])[:-100], "short.ko", [], gate_crc=None)


def test_calls_are_found_with_their_return_addresses() -> None:
    data = ko.read_image(OBJECTS[0])
    sites = call_sites(data, "x.ko", ko.parse(data, "x.ko").imports)
    assert sites
    assert all(site.returns_to == site.offset + 4 for site in sites)


@pytest.mark.parametrize(
    ("python", "prefix"),
    [(rules.Key, "KEY_"), (rules.Success, "OK_"), (rules.Check, "CHECK_"), (rules.Fail, "FAIL_")],
)
def test_the_kernels_side_numbers_things_alike(python: type[IntEnum], prefix: str) -> None:
    text = (MODULE / "interpose.h").read_text()
    names = re.findall(rf"^\t{prefix}(\w+)(?=,)", text, re.MULTILINE)
    listed = [
        name
        for line in re.findall(rf"^\t({prefix}.*)", text, re.MULTILINE)
        for name in re.findall(rf"{prefix}(\w+)", line.partition("/*")[0])
    ]
    assert names
    assert listed == [member.name for member in python]


def test_the_kernels_side_has_the_same_flags() -> None:
    text = (MODULE / "interpose.h").read_text()
    found = {name: int(value) for name, value in re.findall(r"#define RULE_(\w+)\s+(\d+)", text)}
    assert found == {flag.name: flag.value for flag in Flag}


def test_every_function_of_the_tables_is_exported_by_some_series() -> None:
    takes = {take.name for family in FAMILIES for take in family.takes}
    names = {*FALLIBLE, *takes, *(give.name for family in FAMILIES for give in family.gives)}
    assert names == set(EXPORTED)
    assert len(FALLIBLE) > 120
    assert all(EXPORTED.values())


def test_each_series_can_fail_kmalloc_and_see_it_freed() -> None:
    for series in ("5.10", "6.1", "6.12", "7.3"):
        here = [name for name, where in EXPORTED.items() if series in where]
        spoken_here = {spoken(name) for name in here}
        assert {"kmalloc", "kfree", "copy_from_user", "kmem_cache_create"} <= spoken_here


def test_a_spinlock_is_not_watched_where_its_unlock_is_inlined() -> None:
    assert not choose({"_raw_spin_lock", "kfree"}, NOW).rules
    assert len(choose({"_raw_spin_lock", "_raw_spin_unlock"}, NOW).rules) == 2


def test_families_that_the_module_takes_nothing_of_are_left_out() -> None:
    chosen = choose({"kfree", "kmalloc_trace", "misc_deregister"}, NOW, faults=False)
    assert [rule.name for rule in chosen.rules] == ["kfree", "kmalloc_trace"]


def test_a_function_may_take_and_fail() -> None:
    (rule,) = choose({"misc_register"}, NOW).rules
    assert (rule.fail, rule.failure, rule.success) == (Fail.VALUE, -16, rules.Success.ZERO)


def records(*texts: str) -> list[Record]:
    return [Record(n, float(n), "debug", 0, text) for n, text in enumerate(texts)]


SAID = (
    f"{PREFIX}failed 2 1 0 f_init+0x20/0xff0 [f]",
    "f: hello",
    f"{PREFIX}double 0 f_exit+0x40/0xff0 [f] ff1100000405b000",
    f"{PREFIX}taken 1 f_init+0x3d/0xff0 [f]",
    f"{PREFIX}freed 0 f_exit+0x34/0xff0 [f]",
    f"{PREFIX}site 77 f_init+0x20/0xff0 [f]",
    f"{PREFIX}calls 1.77.0 1.115.1",
    f"{PREFIX}total 2",
    f"{PREFIX}leak 1 f_init+0x20/0xff0 [f] ff11 3",
)


def test_what_was_said_is_understood() -> None:
    report = read(records(*SAID), choose({"kmalloc_trace", "kfree"}, NOW))
    kfree, kmalloc = choose({"kmalloc_trace", "kfree"}, NOW).rules
    assert report.failed
    assert (report.failed.rule, report.failed.site.offset) == (kmalloc, 0x20)
    assert kfree.gives
    assert [call.phase for call in report.calls] == ["init", "exercise"]
    assert report.total == 2
    double, leak = report.problems
    assert double.kind is ProblemKind.DOUBLE_FREE
    assert double.summary == "kfree() of memory of kmalloc() that was freed by kfree() in f_exit()"
    assert (leak.kind, leak.count, leak.function, leak.offset) == (
        ProblemKind.LEAK,
        3,
        "f_init",
        0x20,
    )


def test_the_log_is_without_it() -> None:
    assert [record.text for record in without(records(*SAID))] == ["f: hello"]


def test_what_a_module_says_in_its_place_is_not_believed() -> None:
    lies = (
        "leak 99 x 1 1",
        "calls 9.9.9",
        "total many",
        "leak",
        "site zz",
        "double 0",
        "calls 0..0",
    )
    report = read(records(*(PREFIX + lie for lie in lies)), choose({"kmalloc_trace", "kfree"}, NOW))
    assert not report.problems
    assert not report.calls


def test_lkms_own_frame_is_not_at_fault() -> None:
    lines = """BUG: kernel NULL pointer dereference, address: 0000000000000000
RIP: 0010:strlen+0x0/0x20
Call Trace:
 lkm_gate+0x8a/0xb0 [lkm_interpose]
 f_init+0x20/0xff0 [f]
---[ end trace 0000000000000000 ]---""".splitlines()
    assert find(records(*lines))[0].function == "f_init"
