"""A kernel log cut into its problem reports, each from its first line to its last."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lkm.problems.forms import (
    BODY,
    CUT_HERE,
    END_MARKER,
    FORMS,
    FRAME,
    REGISTERS,
    RULE,
    STACK_BEGINS,
    STACK_ENDS,
    TRAILER,
    Form,
    ProblemKind,
    Until,
)

__all__ = ["Reader", "Report"]


@dataclass
class Report:
    """A report while it is read. Without a form it is a `cut here` that has not said yet what it is."""

    first: int
    last: int
    lines: list[str] = field(default_factory=list)
    form: Form | None = None
    match: re.Match[str] | None = None
    seen: list[Form] = field(default_factory=list)
    message: str = ""
    in_stack: bool = False
    ended: bool = False
    strangers: int = 0

    @property
    def until(self) -> Until:
        marked = not self.seen or any(form.until is Until.MARKER for form in self.seen)
        return Until.MARKER if marked else Until.STACK

    @property
    def kind(self) -> ProblemKind:
        return self.form.kind if self.form else ProblemKind.WARNING

    def goes_on_with(self, form: Form) -> bool:
        if self.form is None:
            return form.until is Until.MARKER
        return self.kind in form.within and form not in self.seen

    def takes_cut(self) -> bool:
        """Whether a `cut here` belongs to it: lib/list_debug.c and mm/usercopy.c say why before they
        BUG(), and mm/slub.c shows the object before it warns (since 6.12).
        """
        if self.kind is ProblemKind.SLAB:
            return not self.in_stack
        return self.form is not None and len(self.lines) == 1

    def adopt(self, form: Form, match: re.Match[str]) -> None:
        if self.form is None:
            self.form, self.match = form, match
        elif not self.message:
            self.message = match.string
        self.seen.append(form)

    def add(self, index: int, line: str) -> None:
        self.lines.append(line)
        self.last = index
        self.strangers = 0
        self.in_stack |= bool(STACK_BEGINS.match(line))

    def patience(self) -> int:
        """How many lines of others may come between two of the report's own."""
        return 8 if self.in_stack and self.until is Until.STACK else 256


class Reader:
    """Cuts a log into reports, line by line."""

    def __init__(self) -> None:
        self._done: list[Report] = []
        self._open: Report | None = None
        self._rule: int | None = None

    def reports(self) -> list[Report]:
        self._close()
        return self._done

    def feed(self, index: int, line: str) -> None:
        if self._open and self._open.kind is ProblemKind.KMEMLEAK:
            # With kmemleak.verbose each line of it begins so (warn_or_seq_printf(), mm/kmemleak.c).
            line = re.sub(r"^kmemleak: (?=  )", "", line)
        if found := _form_of(line):
            self._begin(index, line, *found)
        elif line == CUT_HERE:
            self._cut(index, line)
        elif self._open:
            self._go_on(self._open, index, line)
        elif self._done and index <= self._done[-1].last + 1 and TRAILER.match(line):
            self._done[-1].last = index
        if line.startswith("=") and RULE.fullmatch(line):
            self._rule = index

    def _begin(self, index: int, line: str, form: Form, match: re.Match[str]) -> None:
        report = self._open
        if not (report and report.goes_on_with(form)):
            self._close()
            first = index - 1 if self._rule == index - 1 else index
            self._open = report = Report(first, index)
        report.adopt(form, match)
        report.add(index, line)
        if form.until is Until.LINE:
            self._close()

    def _cut(self, index: int, line: str) -> None:
        report = self._open
        if not (report and report.takes_cut()):
            self._close()
            self._open = report = Report(index, index)
        report.add(index, line)

    def _go_on(self, report: Report, index: int, line: str) -> None:
        ends = END_MARKER if report.until is Until.MARKER else STACK_ENDS
        if ends.match(line):
            report.add(index, line)
            report.ended = not RULE.fullmatch(line)
            self._close()
        elif _is_body(line):
            report.add(index, line)
        else:
            self._pass_over(report, line)

    def _pass_over(self, report: Report, line: str) -> None:
        """A line that is the report's message, another CPU's, or from after the end."""
        report.strangers += 1
        if line and not report.message and (report.form is None or report.strangers == 1):
            report.message = line
        if report.strangers > report.patience():
            self._close()

    def _close(self) -> None:
        if self._open and (self._open.form or self._open.ended):
            self._done.append(self._open)
        self._open = None


def _form_of(line: str) -> tuple[Form, re.Match[str]] | None:
    for form in FORMS:
        if form.needle in line and (match := re.match(form.start, line)):
            return form, match
    return None


def _is_body(line: str) -> bool:
    return bool(BODY.match(line) or FRAME.match(line) or REGISTERS.match(line))
