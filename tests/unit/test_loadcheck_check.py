"""What is foretold of objects that kbuild made, on kernels made up for the purpose."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.loadcheck_kernels import (
    NEW,
    OLD,
    SIGNATURE,
    STOCK,
    THIS,
    dmesg,
    facts_for,
    in_section,
    put,
    rows_for,
    swapped,
    symvers,
    what,
)

from lkm import ko
from lkm.ko import Export, KernelObject
from lkm.ko.signature import MAGIC
from lkm.loadcheck import KernelFacts, Severity, SymbolTable, Verdict, check
from lkm.loadcheck.image import Image

EKEYREJECTED = 129


@pytest.fixture
def old(tmp_path: Path) -> KernelFacts:
    """A 5.10 with modversions."""
    return facts_for(tmp_path, OLD)


@pytest.fixture
def new(tmp_path: Path) -> KernelFacts:
    """A 7.3 without."""
    return facts_for(tmp_path, NEW)


# Whole objects


@pytest.mark.parametrize("data", [OLD, NEW], ids=["5.10", "7.3"])
def test_an_object_loads_on_the_kernel_that_it_was_built_for(tmp_path: Path, data: bytes) -> None:
    report = check(data, facts_for(tmp_path, data))
    assert (report.verdict, report.errno, report.findings) == (Verdict.OK, None, ())
    assert report.name == "everything"


def test_a_report_is_plain_data(new: KernelFacts) -> None:
    report = check(b"", new).to_dict()
    assert (report["verdict"], report["errno"]) == ("refused", "ENOEXEC")
    assert report["findings"][0]["what"] == "not a module"


# Which kernel it was built for


def test_another_release_is_refused_without_modversions(new: KernelFacts) -> None:
    kernel = replace(
        new, vermagic="7.4-cloud-amd64 SMP preempt mod_unload ", release="7.4-cloud-amd64"
    )
    report = check(NEW, kernel)
    assert report.errno == errno.ENOEXEC
    assert what(report) == ["built for 7.3-cloud-amd64, flavour cloud"]
    assert dmesg(report) == [
        "everything: version magic '7.3-cloud-amd64 SMP preempt mod_unload ' should be"
        " '7.4-cloud-amd64 SMP preempt mod_unload '"
    ]
    assert (
        report.findings[0].hint == "build it for this kernel: lkm build SOURCE -k 7.4-cloud-amd64"
    )


def test_with_modversions_the_release_does_not_matter(old: KernelFacts) -> None:
    magic = old.vermagic.replace("5.10.0-32", "5.10.0-99")
    assert check(OLD, replace(old, vermagic=magic)).verdict is Verdict.OK
    assert check(OLD, replace(old, vermagic=magic.replace("SMP ", ""))).errno == errno.ENOEXEC


@pytest.mark.parametrize(
    ("options", "expected"),
    [(frozenset[str](), None), (frozenset({"MODULE_FORCE_LOAD"}), errno.ENOEXEC)],
)
def test_without_version_magic_it_is_forced_where_the_kernel_forces(
    new: KernelFacts, options: frozenset[str], expected: int | None
) -> None:
    report = check(swapped(NEW, b"vermagic=", b"vermagix="), replace(new, options=STOCK - options))
    assert report.errno == expected
    assert what(report) == ["no version magic"]


def test_a_module_built_for_another_kernel_is_told_what_it_would_miss(
    tmp_path: Path, new: KernelFacts
) -> None:
    rows = rows_for(NEW)
    del rows["param_set_int"]
    symbols = symvers(tmp_path / "Module.symvers", rows)
    report = check(NEW, replace(new, vermagic="7.4 ", symbols=symbols))
    assert [finding.what for finding in report.beyond] == ["unknown symbol param_set_int"]


# Versions of symbols


def test_another_version_of_module_layout_is_another_kernel(tmp_path: Path) -> None:
    rows = rows_for(OLD) | {"module_layout": (1, "vmlinux", "EXPORT_SYMBOL", "")}
    report = check(OLD, facts_for(tmp_path, OLD, rows))
    assert report.errno == errno.ENOEXEC
    assert dmesg(report) == ["everything: disagrees about version of symbol module_layout"]


def test_another_version_of_a_symbol_is_refused(tmp_path: Path) -> None:
    rows = rows_for(OLD) | {"param_set_int": (1, "vmlinux", "EXPORT_SYMBOL", "")}
    report = check(OLD, facts_for(tmp_path, OLD, rows))
    assert report.errno == errno.EINVAL
    assert dmesg(report) == [
        "everything: disagrees about version of symbol param_set_int",
        "everything: Unknown symbol param_set_int (err -22)",
    ]


@pytest.mark.parametrize(("strict", "expected"), [(False, None), (True, errno.EINVAL)])
def test_a_symbol_without_version_is_refused_by_debian_alone(
    old: KernelFacts, strict: bool, expected: int | None
) -> None:
    unversioned = swapped(OLD, b"param_set_int\0", b"param_set_ink\0")
    image = Image(OLD, (5, 10))
    assert image.named("__versions") > 0
    assert check(unversioned, replace(old, strict_versions=strict)).errno == expected


def test_without_any_versions_it_is_forced_and_must_be_of_this_release(old: KernelFacts) -> None:
    bare = in_section(OLD, "__versions", 0, "I", 1)
    assert check(bare, old).verdict is Verdict.OK
    other = replace(old, vermagic=old.vermagic.replace("-32-", "-33-"))
    assert check(bare, other).errno == errno.ENOEXEC
    unforced = replace(old, options=old.options - {"MODULE_FORCE_LOAD"})
    assert check(bare, unforced).errno == errno.ENOEXEC


# Symbols


def without(
    home: Path, data: bytes, *names: str, **others: tuple[int, str, str, str]
) -> KernelFacts:
    rows = {name: row for name, row in rows_for(data).items() if name not in names}
    return facts_for(home, data, rows | others)


def test_each_unknown_symbol_is_named(tmp_path: Path) -> None:
    report = check(NEW, without(tmp_path, NEW, "param_set_int", "param_ops_byte"))
    assert report.errno == errno.ENOENT
    assert sorted(dmesg(report)) == [
        "everything: Unknown symbol param_ops_byte (err -2)",
        "everything: Unknown symbol param_set_int (err -2)",
    ]


def test_the_errno_is_that_of_the_last_symbol(tmp_path: Path) -> None:
    imports = [name for name in ko.parse(OLD, "x").imports if name != "everything_maybe"]
    first, last = imports[0], imports[-1]
    changed = {last: (1, "vmlinux", "EXPORT_SYMBOL", "")}
    assert check(OLD, without(tmp_path, OLD, first, **changed)).errno == errno.EINVAL
    changed = {first: (1, "vmlinux", "EXPORT_SYMBOL", "")}
    assert check(OLD, without(tmp_path, OLD, last, **changed)).errno == errno.ENOENT


def test_a_symbol_of_a_module_needs_the_module_loaded(tmp_path: Path) -> None:
    row = {"param_set_int": (0, "drivers/a/some-module", "EXPORT_SYMBOL", "")}
    facts = without(tmp_path, NEW, **row)
    (finding,) = check(NEW, facts).findings
    assert finding.why == "some_module exports it and is not loaded"
    assert check(NEW, facts, loaded=["some-module"]).verdict is Verdict.OK


def test_a_gpl_only_symbol_wants_a_gpl_licence(tmp_path: Path) -> None:
    facts = without(tmp_path, NEW, param_set_int=(0, "vmlinux", "EXPORT_SYMBOL_GPL", ""))
    assert check(NEW, facts).verdict is Verdict.OK
    closed = swapped(NEW, b"license=GPL", b"license=BSD")
    report = check(closed, facts)
    assert report.errno == errno.ENOENT
    taint, unknown = report.findings
    assert taint.severity is Severity.WARNS
    assert unknown.why == "it is for GPL modules only, and the licence 'BSD' is not GPL"


@pytest.mark.parametrize(
    ("namespace", "options", "expected"),
    [
        ("SOME_SPACE", frozenset[str](), errno.EINVAL),
        ("SOME_SPACE", frozenset({"MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS"}), None),
        ("module:other,every*", frozenset[str](), None),
        ("module:everything", frozenset[str](), None),
        ("module:everything-else", frozenset[str](), errno.EINVAL),
    ],
)
def test_a_namespace_must_be_imported(
    tmp_path: Path, namespace: str, options: frozenset[str], expected: int | None
) -> None:
    facts = without(tmp_path, NEW, param_set_int=(0, "vmlinux", "EXPORT_SYMBOL", namespace))
    report = check(NEW, replace(facts, options=facts.options | options))
    assert report.errno == expected
    if expected:
        assert dmesg(report)[0] == (
            f"everything: module uses symbol (param_set_int) from namespace {namespace},"
            " but does not import it."
        )


def test_an_imported_namespace_is_enough(tmp_path: Path) -> None:
    facts = without(tmp_path, NEW, param_set_int=(0, "vmlinux", "EXPORT_SYMBOL", "SPACES"))
    importing = swapped(NEW, b"firmware=everything.bin\0", b"import_ns=SPACES\0\0\0\0\0\0\0\0")
    assert check(importing, facts).verdict is Verdict.OK


def test_nobody_imports_a_namespace_that_names_modules(new: KernelFacts) -> None:
    importing = swapped(NEW, b"firmware=everything.bin\0", b"import_ns=module:sombod\0")
    report = check(importing, new)
    assert report.errno == errno.EPERM
    assert check(importing, replace(new, version=(6, 12))).errno is None


def closed_module(name: str, *symbols: str) -> KernelObject:
    exports = tuple(Export(symbol, gpl=False) for symbol in symbols)
    return KernelObject(name, "EM_X86_64", 64, modinfo=(("license", "Foo"),), exports=exports)


def test_gpl_only_and_proprietary_symbols_do_not_go_together(tmp_path: Path) -> None:
    imports = [name for name in ko.parse(NEW, "x").imports if name != "everything_maybe"]
    first, last = imports[0], imports[-1]
    gpl = (0, "vmlinux", "EXPORT_SYMBOL_GPL", "")
    facts = without(tmp_path, NEW, first, **{last: gpl})
    assert check(NEW, facts, loaded=[closed_module("foo", first)]).errno == errno.ENOENT
    facts = without(tmp_path, NEW, last, **{first: gpl})
    report = check(NEW, facts, loaded=[closed_module("foo", last)])
    assert dmesg(report) == [
        f"everything: module using GPL-only symbols uses symbols {last} from proprietary module foo.",
        f"everything: Unknown symbol {last} (err -2)",
    ]


# Names and exports


def test_a_name_is_taken_by_a_module_that_is_loaded(new: KernelFacts) -> None:
    report = check(NEW, new, loaded=["everything"])
    assert (report.errno, report.findings[0].hint) == (errno.EEXIST, "lkm rmmod everything")


@pytest.mark.parametrize("data", [OLD, NEW], ids=["5.10", "7.3"])
def test_no_symbol_is_exported_twice(tmp_path: Path, data: bytes) -> None:
    row = {"everything_gpl": (0, "vmlinux", "EXPORT_SYMBOL", "")}
    report = check(data, without(tmp_path, data, **row))
    assert report.errno == errno.ENOEXEC
    assert dmesg(report) == [
        "everything: exports duplicate symbol everything_gpl (owned by kernel)"
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [(frozenset({"MODULE_FORCE_LOAD"}), None), (frozenset[str](), errno.ENOEXEC)],
)
def test_exports_without_versions_are_forced_where_the_kernel_forces(
    old: KernelFacts, options: frozenset[str], expected: int | None
) -> None:
    unversioned = in_section(OLD, "__kcrctab_gpl", 0, "I", 1)
    report = check(unversioned, replace(old, options=old.options - {"MODULE_FORCE_LOAD"} | options))
    assert (report.errno, what(report)) == (expected, ["no versions of what it exports"])


@pytest.mark.parametrize("name", ["kernel", "rcutree"])
def test_a_name_in_sys_module_that_no_list_has_is_known(new: KernelFacts, name: str) -> None:
    at = Image(NEW, (7, 3)).sections[Image(NEW, (7, 3)).named(THIS)].offset + 24
    report = check(put(NEW, at, name.encode() + b"\0"), new)
    assert (report.verdict, report.name) == (Verdict.UNKNOWN, name)


def test_exports_are_those_that_the_reader_knows() -> None:
    for data, version in ((OLD, (5, 10)), (NEW, (7, 3))):
        known = {export.name for export in ko.parse(data, "x").exports}
        assert set(Image(data, version).exports) == known


# Signatures


def test_an_unsigned_module_is_refused_where_signatures_are_enforced(new: KernelFacts) -> None:
    report = check(NEW, replace(new, sig_enforced=True))
    assert report.errno == EKEYREJECTED
    assert dmesg(report) == ["Loading of unsigned module is rejected"]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 1 << 30) + MAGIC, errno.EBADMSG),
        (b"x" * 8 + struct.pack(">BBBBB3xI", 9, 0, 2, 0, 0, 8) + MAGIC, errno.EBADMSG),
        (b"x" * 8 + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 8) + MAGIC, errno.EBADMSG),
        (b"x" * 8 + struct.pack(">BBBBB3xI", 0, 0, 1, 0, 0, 8) + MAGIC, None),
        (SIGNATURE, None),
    ],
)
def test_a_signature_is_looked_at_before_anything_else(
    new: KernelFacts, tail: bytes, expected: int | None
) -> None:
    assert check(NEW + tail, new).errno == expected
    assert check(NEW + tail, replace(new, options=STOCK - {"MODULE_SIG"})).errno is None


def test_a_signature_by_the_kernels_own_key_is_not_foretold(new: KernelFacts) -> None:
    ours = ko.parse(NEW + SIGNATURE, "x").signature
    report = check(NEW + SIGNATURE, replace(new, signature=ours))
    assert (report.verdict, what(report)) == (
        Verdict.UNKNOWN,
        ["signed with the kernel's own key"],
    )


# Hints


def other(home: Path, release: str, *names: str) -> SymbolTable:
    (home / release).mkdir()
    rows = dict.fromkeys(names, (0, "vmlinux", "EXPORT_SYMBOL", ""))
    return symvers(home / release / "Module.symvers", rows)


@pytest.mark.parametrize(
    ("having", "why"),
    [
        (
            ("6.1", "6.12"),
            "7.3-cloud-amd64 does not export it; 6.12 did, the last one here that does",
        ),
        (
            ("7.4", "8.0"),
            "7.3-cloud-amd64 does not export it yet; 7.4 is the first one here that does",
        ),
        ((), "7.3-cloud-amd64 does not export it, nor does any of 4 other kernels here"),
    ],
)
def test_other_kernels_tell_when_a_symbol_came_or_went(
    tmp_path: Path, having: tuple[str, ...], why: str
) -> None:
    others = [
        other(tmp_path, release, *(["param_set_int"] if release in having else []))
        for release in ("6.1", "6.12", "7.4", "8.0")
    ]
    facts = without(tmp_path, NEW, "param_set_int")
    assert check(NEW, facts, others=others).findings[0].why == why


def test_a_symbol_that_is_there_and_not_exported_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "System.map").write_text("ffffffff81000000 T param_set_int\n")
    facts = replace(without(tmp_path, NEW, "param_set_int"), system_map=tmp_path / "System.map")
    assert check(NEW, facts).findings[0].why == "7.3-cloud-amd64 has it and does not export it"
