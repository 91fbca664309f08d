"""The prediction itself: the loader's steps, in its order, up to the first that refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from lkm.ko import KernelObject
from lkm.loadcheck import rules
from lkm.loadcheck.case import Case
from lkm.loadcheck.changes import NAME_FIRST
from lkm.loadcheck.elf_rules import check_elf
from lkm.loadcheck.facts import KernelFacts
from lkm.loadcheck.findings import Finding, Report, Severity
from lkm.loadcheck.image import Image
from lkm.loadcheck.relocations import check_relocations
from lkm.loadcheck.resolve import check_symbols
from lkm.loadcheck.signature_rule import check_signature
from lkm.loadcheck.symbols import SymbolTable

__all__ = ["check"]

_Rule = Callable[[Case], Iterator[Finding]]


def check(
    image: bytes,
    facts: KernelFacts,
    *,
    loaded: Iterable[str | KernelObject] = (),
    others: Sequence[SymbolTable] = (),
) -> Report:
    """What the kernel would say to init_module(2) with these bytes, up to the module's own init.

    `loaded` says what is in the kernel already: names of its own modules, and the facts of others. `others`
    are other kernels' symbols, oldest first, to say where a missing symbol is or was. Nothing is executed.
    """
    before = list(loaded)
    names = tuple(each for each in before if isinstance(each, str))
    length, signature = check_signature(image, facts)
    found = [signature] if signature else []
    if _refuses(found):
        return Report("", facts.release, tuple(found), loaded=names)
    seen = Image(image if length == len(image) else image[:length], facts.version)
    case = Case(
        seen,
        facts,
        frozenset(name.replace("-", "_") for name in names),
        [each for each in before if isinstance(each, KernelObject)],
        others,
    )
    if damaged := check_elf(seen, facts):
        # All is well but the size of struct module: built for another kernel.
        rebuilt = check_elf(seen, replace(facts, module_size=None)) is None
        beyond = _beyond(case) if rebuilt else ()
        return Report("", facts.release, (*found, damaged), beyond, names)
    steps, refused = _in_order(case)
    beyond = _beyond(case) if refused in _BEFORE_SYMBOLS else ()
    return Report(case.name, facts.release, (*found, *steps), beyond, names)


def _refuses(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.REFUSES for finding in findings)


def _in_order(case: Case) -> tuple[list[Finding], _Rule | None]:
    """The findings up to the first step that refuses, and that step."""
    found: list[Finding] = []
    for step in _STEPS if NAME_FIRST.is_in(case.facts.version) else _OLD_STEPS:
        new = list(step(case))
        found += new
        if _refuses(new) or (new and step is rules.check_struct_size):
            return found, step
    return found, None


def _beyond(case: Case) -> tuple[Finding, ...]:
    """The symbols that a rebuilt module would miss; their versions would be new."""
    options = case.facts.options - {"MODVERSIONS"}
    rebuilt = replace(case, facts=replace(case.facts, options=options))
    return tuple(f for f in check_symbols(rebuilt) if f.severity is Severity.REFUSES)


_AFTER: tuple[_Rule, ...] = (
    rules.check_percpu,
    rules.check_export_versions,
    rules.check_module_namespaces,
    check_symbols,
    check_relocations,
    rules.check_exports,
    rules.check_sysfs_name,
)
_STEPS: tuple[_Rule, ...] = (
    rules.check_struct_version,
    rules.check_modinfo,
    rules.check_name,
    rules.check_write_and_exec,
    rules.check_licence,
    *_AFTER,
)
_OLD_STEPS: tuple[_Rule, ...] = (
    rules.check_struct_version,
    rules.check_modinfo,
    rules.check_struct_size,
    rules.check_licence,
    rules.check_write_and_exec,
    rules.check_name,
    *_AFTER,
)

_BEFORE_SYMBOLS = (rules.check_struct_version, rules.check_modinfo)
