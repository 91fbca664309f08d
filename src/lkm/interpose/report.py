"""What `lkm_interpose` said in the log, taken out of it and understood. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lkm.interpose.choice import Choice
from lkm.interpose.names import spoken
from lkm.interpose.rules import Flag, Rule
from lkm.log import Record
from lkm.problems import Frame, Problem, ProblemKind

__all__ = ["PHASES", "Call", "Report", "Site", "read", "without"]

PREFIX = "lkm_interpose: "
PHASES = ("init", "exercise", "exit")
"""The module was coming, live, going, by `struct module`'s state."""


@dataclass(frozen=True)
class Site:
    """Where a call came from, by its return address: `function+0xOFFSET/0xSIZE [module]`."""

    function: str | None = None
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    address: int | None = None


@dataclass(frozen=True)
class Call:
    """A fallible call that was made: which function, from where, when."""

    rule: Rule
    site: Site
    phase: str


@dataclass(frozen=True)
class Report:
    """What was said: `calls` in their order (of `total`), the one that was `failed`, and the `problems`.

    `untracked` counts what there was no room to keep.
    """

    calls: tuple[Call, ...] = ()
    total: int = 0
    failed: Call | None = None
    problems: tuple[Problem, ...] = ()
    untracked: int = 0


def without(records: Iterable[Record]) -> tuple[Record, ...]:
    """The log as it would have been: without what `lkm_interpose` said."""
    return tuple(record for record in records if not record.text.startswith(PREFIX))


def read(records: Sequence[Record], choice: Choice) -> Report:
    """What is said in the records of one module's life."""
    reader = _Reader(choice)
    for record in records:
        if record.text.startswith(PREFIX):
            reader.feed(record.text.removeprefix(PREFIX))
    return reader.report()


_SITE = re.compile(
    r"(?P<function>[^\s+]+)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)(?: \[(?P<module>\S+?)\])?"
)
_SAID = {
    word: re.compile(pattern)
    for word, pattern in {
        "site": r"(?P<n>[0-9a-f]+) (?P<site>.+)",
        "calls": r"(?P<calls>[0-9a-f. ]+)",
        "total": r"(?P<n>\d+)",
        "failed": r"\d+ (?P<rule>\d+) (?P<phase>\d) (?P<site>.+)",
        "leak": r"(?P<rule>\d+) (?P<site>.+) [0-9a-f]+ (?P<n>\d+)",
        **dict.fromkeys(
            ("double", "wrong", "wild", "locked"), r"(?P<rule>\d+) (?P<site>.+) (?P<n>[0-9a-f]+)"
        ),
        **dict.fromkeys(("taken", "freed"), r"(?P<rule>\d+) (?P<site>.+)"),
        "untracked": r"(?P<n>\d+)",
    }.items()
}


def _site(text: str) -> Site:
    if match := _SITE.match(text):
        offset, size = int(match["offset"], 16), int(match["size"], 16)
        return Site(match["function"], offset, size, match["module"])
    address = re.match(r"0x([0-9a-f]{1,16})$", text)
    return Site(address=int(address[1], 16) if address else None)


@dataclass
class _Complaint:
    word: str
    rule: Rule
    site: Site
    value: int
    taken: tuple[Rule, Site] | None = None
    freed: tuple[Rule, Site] | None = None


@dataclass
class _Reader:
    choice: Choice
    sites: dict[int, Site] = field(default_factory=dict)
    calls: list[tuple[int, int, int]] = field(default_factory=list)
    total: int = 0
    failed: Call | None = None
    complaints: list[_Complaint] = field(default_factory=list)
    leaks: list[tuple[Rule, Site, int]] = field(default_factory=list)
    untracked: int = 0

    def feed(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        match = _SAID[word].fullmatch(rest.strip()) if word in _SAID else None
        if match is None:
            return
        said = match.groupdict()
        if "rule" in said:
            if int(said["rule"]) < len(self.choice.rules):
                self._of_rule(word, self.choice.rules[int(said["rule"])], said)
        elif word == "site":
            self.sites[int(said["n"], 16)] = _site(said["site"])
        elif word == "calls":
            self.calls += _calls(said["calls"])
        elif word == "total":
            self.total = int(said["n"])
        else:
            self.untracked = int(said["n"])

    def _of_rule(self, word: str, rule: Rule, said: dict[str, str]) -> None:
        site = _site(said["site"])
        if word == "failed":
            self.failed = Call(rule, site, PHASES[int(said["phase"])])
        elif word == "leak":
            self.leaks.append((rule, site, int(said["n"])))
        elif word in ("taken", "freed"):
            if self.complaints:
                setattr(self.complaints[-1], word, (rule, site))
        else:
            self.complaints.append(_Complaint(word, rule, site, int(said["n"], 16)))

    def report(self) -> Report:
        rules = self.choice.rules
        calls = tuple(
            Call(rules[rule], self.sites.get(site, Site()), PHASES[phase])
            for rule, site, phase in self.calls
            if rule < len(rules) and phase < len(PHASES)
        )
        problems = (*map(_complaint, self.complaints), *self._leaks())
        return Report(calls, self.total, self.failed, problems, self.untracked)

    def _leaks(self) -> Iterator[Problem]:
        for rule, site, count in self.leaks:
            family = self.choice.family_of(rule)
            if family.flags & Flag.LOCK or family.name == "rtnl":
                text = f"{spoken(rule.name)}() took {family.what}, which is still held"
                yield _problem(ProblemKind.LOCK_HELD, text, site, count)
            else:
                gives = " or ".join(dict.fromkeys(f"{spoken(g.name)}()" for g in family.gives[:2]))
                text = f"{family.what} of {spoken(rule.name)}() was not given back ({gives})"
                yield _problem(ProblemKind.LEAK, text, site, count)


def _calls(text: str) -> Iterator[tuple[int, int, int]]:
    for each in text.split():
        parts = each.split(".")
        if len(parts) == 3 and all(parts):
            rule, site, phase = (int(part, 16) for part in parts)
            yield rule, site, phase


def _complaint(said: _Complaint) -> Problem:
    giver = f"{spoken(said.rule.name)}()"
    taken = f" of {spoken(said.taken[0].name)}()" if said.taken else ""
    if said.word == "double":
        by = f" by {spoken(said.freed[0].name)}()" if said.freed else " by the kernel"
        where = f" in {said.freed[1].function}()" if said.freed and said.freed[1].function else ""
        return _problem(
            ProblemKind.DOUBLE_FREE,
            f"{giver} of memory{taken} that was freed{by}{where}",
            said.site,
        )
    if said.word == "wrong":
        return _problem(ProblemKind.BAD_FREE, f"{giver} of memory{taken}", said.site)
    if said.word == "locked":
        return _problem(
            ProblemKind.LOCK_HELD, f"{giver} of memory with a lock in it that is held", said.site
        )
    return _problem(ProblemKind.BAD_FREE, f"{giver} of {_value(said.value)}", said.site)


def _value(value: int) -> str:
    signed = value - (1 << 64) if value >> 63 else value
    if -4096 < signed < 0:
        return f"ERR_PTR({signed})"
    return f"0x{value:x}, which was not allocated"


def _problem(kind: ProblemKind, summary: str, site: Site, count: int = 1) -> Problem:
    frame = Frame(site.function, site.offset, site.size, site.module, True, site.address)
    return Problem(
        kind=kind, summary=summary, function=site.function, module=site.module, file=None, line=None,
        offset=site.offset, size=site.size, address=site.address, process=None, taint="",
        trace=(frame,), records=(0, 0), count=count, fault=frame,
    )  # fmt: skip
