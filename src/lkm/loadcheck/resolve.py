"""simplify_symbols(): every undefined symbol finds one that is exported, or the load fails.

All of them are tried, and the errno is that of the last one that fails.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.loadcheck.case import Case, is_gpl_compatible
from lkm.loadcheck.changes import (
    MODULE_NAMESPACES,
    SYMBOL_INDEX_CHECKED,
    TAINTING_SYMBOL_NAMED,
)
from lkm.loadcheck.findings import Finding, Severity
from lkm.loadcheck.hints import unresolved
from lkm.loadcheck.image import Symbol
from lkm.loadcheck.rules import version_problem
from lkm.loadcheck.symbols import Exported

__all__ = ["check_symbols"]

_UNDEF, _LIVEPATCH, _ABS, _COMMON = 0, 0xFF20, 0xFFF1, 0xFFF2
_MOST = 20_000
"""Symbols that are looked at: the largest modules import a tenth of that."""
_IGNORED = "_GLOBAL_OFFSET_TABLE_"


def check_symbols(case: Case) -> Iterator[Finding]:
    """A finding for each symbol that the kernel would complain about."""
    resolver = _Resolver(case)
    sections = len(case.image.sections)
    for number, symbol in enumerate(case.image.symbols()):
        if symbol.section == _UNDEF:
            yield from resolver.resolve(symbol)
            if number > _MOST:
                return
        elif symbol.section == _COMMON and not symbol.name.startswith("__gnu_lto"):
            yield _common(case)
        elif symbol.section >= sections and symbol.section not in (_LIVEPATCH, _ABS, _COMMON):
            yield _nowhere(case, symbol, sections)


class _Resolver:
    """What the loader keeps of a module while it resolves symbols: what taints it, what it has used."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._gpl_ok = not case.proprietary
        self._uses_gpl_only = False

    def resolve(self, symbol: Symbol) -> Iterator[Finding]:
        """resolve_symbol() and what simplify_symbols() makes of it."""
        found = self._case.find(symbol.name, gpl_ok=self._gpl_ok)
        if found is None:
            if not symbol.weak and symbol.name != _IGNORED:
                yield unresolved(self._case, symbol.name, gpl_ok=self._gpl_ok)
            return
        self._uses_gpl_only |= found.gpl
        finding = self._refusal(found)
        if finding and not (symbol.weak and finding.errno == errno.ENOENT):
            yield finding

    def _refusal(self, found: Exported) -> Finding | None:
        return self._inherit(found) or _version(self._case, found) or _namespace(self._case, found)

    def _inherit(self, found: Exported) -> Finding | None:
        """inherit_taint(): who uses a proprietary module's symbols is proprietary from there on."""
        owner = self._case.owner(found)
        if owner is None or is_gpl_compatible(owner.license):
            return None
        if not self._uses_gpl_only:
            self._gpl_ok = False
            return None
        name = self._case.name
        named = TAINTING_SYMBOL_NAMED.is_in(self._case.facts.version)
        symbols = f"symbols {found.name}" if named else "symbols"
        return Finding(
            f"{found.name} of the proprietary module {owner.name}",
            "it uses GPL-only symbols, too, and no module may use both",
            errno=errno.ENOENT,
            dmesg=(
                f"{name}: module using GPL-only symbols uses {symbols}"
                f" from proprietary module {owner.name}.",
                _unknown(name, found.name, errno.ENOENT),
            ),
        )


def _unknown(module: str, symbol: str, number: int) -> str:
    return f"{module}: Unknown symbol {symbol} (err -{number})"


def _version(case: Case, found: Exported) -> Finding | None:
    problem = version_problem(case, found.name, found.crc)
    if problem is None:
        return None
    release = (case.image.first("vermagic") or "").partition(" ")[0]
    theirs = f"{found.module}'s" if found.module else f"{case.facts.release}'s"
    what, why = (
        f"no version of {found.name}",
        "modpost knew no CRC of it, and this kernel wants one",
    )
    if "disagrees" in problem:
        what = f"another version of {found.name}"
        why = f"its CRC is not {theirs} 0x{found.crc or 0:08x}: a type that it uses has changed"
    return Finding(
        what,
        why,
        errno=errno.EINVAL,
        dmesg=(*filter(None, [problem]), _unknown(case.name, found.name, errno.EINVAL)),
        hint=f"it was built against {release or 'other headers'}: lkm build SOURCE -k {case.facts.release}",
    )


def _namespace(case: Case, found: Exported) -> Finding | None:
    namespace = found.namespace
    if not namespace or _may_use(case, namespace):
        return None
    allowed = "MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS" in case.facts.options
    said = f"{case.name}: module uses symbol ({found.name}) from namespace {namespace}, but does not import it."
    hint = f'MODULE_IMPORT_NS("{namespace}"), without quotes before 6.13'
    if namespace.startswith("module:"):
        hint = "only these modules may use it; find another symbol"
    return Finding(
        f"{found.name} is in the namespace {namespace}, which it does not import",
        f"only modules that import it may use {found.name}",
        Severity.WARNS if allowed else Severity.REFUSES,
        None if allowed else errno.EINVAL,
        (said,) if allowed else (said, _unknown(case.name, found.name, errno.EINVAL)),
        hint,
    )


def _may_use(case: Case, namespace: str) -> bool:
    if ("import_ns", namespace) in case.image.modinfo:
        return True
    if not MODULE_NAMESPACES.is_in(case.facts.version) or not namespace.startswith("module:"):
        return False
    name = case.name.replace("-", "_")
    patterns = namespace.removeprefix("module:").replace("-", "_").split(",")
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )


def _common(case: Case) -> Finding:
    return Finding(
        "a common symbol",
        "a variable without initializer was compiled with -fcommon",
        errno=errno.ENOEXEC,
        dmesg=(f"{case.name}: please compile with -fno-common",),
        hint="build it with the kernel's own flags: lkm build SOURCE",
    )


def _nowhere(case: Case, symbol: Symbol, sections: int) -> Finding:
    checked = SYMBOL_INDEX_CHECKED.is_in(case.facts.version)
    dmesg = (
        f"{case.name}: Symbol {symbol.name} has an invalid section index {symbol.section}"
        f" (max {sections - 1})"
    )
    return Finding(
        f"the symbol {symbol.name} is in no section",
        f"it is said to be in section {symbol.section} of {sections}",
        Severity.REFUSES if checked else Severity.MAY_REFUSE,
        errno.ENOEXEC,
        (dmesg,),
        "build it again",
    )
