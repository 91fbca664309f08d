"""What a prediction says: findings in the kernel's order, and the verdict that they make."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lkm.errors import errno_name

__all__ = ["Finding", "Report", "Severity", "Verdict"]


class Severity(StrEnum):
    """What a finding means for the load.

    `refuses`: insmod fails with its errno. `may-refuse`: whether it does depends on what no file tells.
    `warns`: the kernel says something and goes on.
    """

    REFUSES = "refuses"
    MAY_REFUSE = "may-refuse"
    WARNS = "warns"


class Verdict(StrEnum):
    """What insmod would say: `ok` means that the module's init function is reached."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One thing that the kernel would not like.

    `what` and `why` are a line each; `errno` is positive, None for a warning; `dmesg` are the lines
    that the kernel would print, in their order; `hint` is something to type or do.
    """

    what: str
    why: str
    severity: Severity = Severity.REFUSES
    errno: int | None = None
    dmesg: tuple[str, ...] = ()
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON has it, with the errno by its name."""
        return {
            "what": self.what,
            "why": self.why,
            "severity": self.severity.value,
            "errno": errno_name(self.errno) if self.errno else None,
            "dmesg": list(self.dmesg),
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Report:
    """The prediction for one object on one kernel.

    `name` is the module's name where the object tells it. `findings` end where the kernel would stop;
    `beyond` are those about the symbols of a module that was built for another kernel. `loaded` names the
    kernel's own modules that were taken to be loaded before.
    """

    name: str
    kernel: str
    findings: tuple[Finding, ...] = ()
    beyond: tuple[Finding, ...] = ()
    loaded: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest of what the findings say."""
        severities = {finding.severity for finding in self.findings}
        if Severity.REFUSES in severities:
            return Verdict.REFUSED
        return Verdict.UNKNOWN if Severity.MAY_REFUSE in severities else Verdict.OK

    @property
    def errno(self) -> int | None:
        """What init_module(2) would fail with, positive; None where it would not.

        Of several symbols that do not resolve it is the last one's, as in simplify_symbols() of
        kernel/module/main.c.
        """
        errnos = [each.errno for each in self.findings if each.severity is Severity.REFUSES]
        return errnos[-1] if errnos else None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it, with the errno by its name."""
        return {
            "name": self.name,
            "kernel": self.kernel,
            "verdict": self.verdict.value,
            "errno": errno_name(self.errno) if self.errno else None,
            "loaded": list(self.loaded),
            "findings": [finding.to_dict() for finding in self.findings],
            "beyond": [finding.to_dict() for finding in self.beyond],
        }
