"""Which rules a module needs: those of the functions that it imports. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from lkm.interpose.fallible import Fallible, fallible
from lkm.interpose.pairs import FAMILIES, Family, Give, Take
from lkm.interpose.rules import NO_FLAGS, Flag, Rule

__all__ = ["Choice", "choose"]

_MOST_FAMILIES = 64
"""Bits of a rule's `gives`."""


@dataclass(frozen=True)
class Choice:
    """The rules for a module, and what the families in them are called."""

    rules: tuple[Rule, ...]
    families: tuple[Family, ...]

    def family_of(self, rule: Rule) -> Family:
        """What a rule that takes takes."""
        return self.families[rule.family]


def choose(
    imports: Collection[str], series: tuple[int, int], *, pairs: bool = True, faults: bool = True
) -> Choice:
    """The rules for an object with these imports on a kernel of that series: `pairs` to see leaks, `faults` to
    be able to fail calls.
    """
    families = _families(set(imports)) if pairs else ()
    rules: dict[str, Rule] = {}
    for number, family in enumerate(families):
        for take in family.takes:
            if take.name in imports:
                rules[take.name] = _taking(rules.get(take.name), take, family, number)
        for give in family.gives:
            if give.name in imports:
                rules[give.name] = _giving(rules.get(give.name), give, family, number, families)
    if faults:
        for name in imports:
            if how := fallible(name, series):
                rules[name] = _failing(rules.get(name) or Rule(name), how)
    return Choice(tuple(rules[name] for name in sorted(rules)), families)


def _families(imports: set[str]) -> tuple[Family, ...]:
    """Those that the module takes something of, or frees memory of."""
    found = [
        family
        for family in FAMILIES
        if _names(family.takes) & imports
        and (not family.flags & Flag.LOCK or _names(family.gives) & imports)
    ]
    return tuple(found[:_MOST_FAMILIES])


def _names(functions: Iterable[Take | Give]) -> set[str]:
    return {function.name for function in functions}


def _taking(rule: Rule | None, take: Take, family: Family, number: int) -> Rule:
    return replace(
        rule or Rule(take.name),
        success=take.success, family=number, check=family.check, key=take.key, key2=take.key2,
        flags=(rule.flags if rule else NO_FLAGS) | take.flags | family.flags,
        gives=(rule.gives if rule else 0) | (1 << number if take.flags & Flag.MOVES else 0),
    )  # fmt: skip


def _giving(
    rule: Rule | None, give: Give, family: Family, number: int, families: tuple[Family, ...]
) -> Rule:
    rule = rule or Rule(give.name)
    wrong = sum(1 << n for n, other in enumerate(families) if other.name in family.wrong)
    gives = rule.gives | 1 << number
    return replace(
        rule, give=give.key, give2=give.key2, gives=gives,
        partners=(rule.partners | wrong) & ~gives, flags=rule.flags | give.flags,
    )  # fmt: skip


def _failing(rule: Rule, how: Fallible) -> Rule:
    return replace(rule, fail=how.fail, failure=how.value, gfp=how.gfp)
