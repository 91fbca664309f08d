"""Why a symbol is not there, and what would bring it: a licence, a module, another kernel of this disk."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkm.errors import UsageError
from lkm.loadcheck.findings import Finding

if TYPE_CHECKING:
    from lkm.loadcheck.case import Case
    from lkm.loadcheck.symbols import SymbolTable

__all__ = ["unresolved"]


def unresolved(case: Case, name: str, *, gpl_ok: bool) -> Finding:
    """The finding for a symbol that nothing loaded exports, or not to a module of this licence."""
    why, hint = _reason(case, name, gpl_ok=gpl_ok)
    dmesg = f"{case.name}: Unknown symbol {name} (err -{errno.ENOENT})"
    return Finding(f"unknown symbol {name}", why, errno=errno.ENOENT, dmesg=(dmesg,), hint=hint)


def _reason(case: Case, name: str, *, gpl_ok: bool) -> tuple[str, str | None]:
    if not gpl_ok and case.find(name):
        return _gpl_only(case)
    own = case.facts.symbols.get(name)
    if own and own.module:
        return f"{own.module} exports it and is not loaded", f"lkm insmod {own.module} first"
    return _not_exported(case, name)


def _gpl_only(case: Case) -> tuple[str, str]:
    if case.proprietary:
        licence = case.image.first("license")
        shown = f"the licence {licence!r} is not GPL" if licence else "the module states no licence"
        return f"it is for GPL modules only, and {shown}", 'MODULE_LICENSE("GPL"), if it is'
    return (
        "it is for GPL modules only, and a symbol of a proprietary module was used before",
        "use only one of the two kinds",
    )


def _not_exported(case: Case, name: str) -> tuple[str, str | None]:
    missing = [each for each in _needs(case) if each not in case.names]
    foreign = [each for each in missing if each not in case.facts.index.files]
    if foreign and not case.facts.is_built_in(foreign[0]):
        which = " or ".join(foreign)
        return (
            f"the kernel does not export it; {which}, which it depends on, may",
            f"load {which} first",
        )
    release = case.facts.release
    if case.facts.in_system_map(name):
        return f"{release} has it and does not export it", "use what is exported instead"
    return _elsewhere(case, name)


def _needs(case: Case) -> list[str]:
    names = (case.image.first("depends") or "").split(",")
    taken = {each.name for each in case.objects}
    return [n.replace("-", "_") for n in names if n and n.replace("-", "_") not in taken]


def _has(other: SymbolTable, name: str) -> bool:
    try:
        return other.get(name) is not None
    except UsageError:
        return False


def _elsewhere(case: Case, name: str) -> tuple[str, str | None]:
    """By the other kernels, which are in the order of their versions."""
    from lkm.kernels.catalog import version_key

    release = case.facts.release
    ours = version_key(release)
    having = [other.release for other in case.others if _has(other, name)]
    older = [other for other in having if version_key(other) < ours]
    newer = [other for other in having if version_key(other) > ours]
    if older:
        return f"{release} does not export it; {older[-1]} did, the last one here that does", None
    if newer:
        why = f"{release} does not export it yet; {newer[0]} is the first one here that does"
        return why, f"lkm check SOURCE -k {newer[0]}"
    compared = f", nor does any of {len(case.others)} other kernels here" if case.others else ""
    return f"{release} does not export it{compared}", "see that its name is right"
