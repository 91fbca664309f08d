"""Whether a kernel would load a module, and if not why: predicted from files, in the kernel's own order."""

from lkm.loadcheck.checker import check
from lkm.loadcheck.facts import KernelFacts, facts_of
from lkm.loadcheck.findings import Finding, Report, Severity, Verdict
from lkm.loadcheck.symbols import Exported, SymbolTable

__all__ = [
    "Exported",
    "Finding",
    "KernelFacts",
    "Report",
    "Severity",
    "SymbolTable",
    "Verdict",
    "check",
    "facts_of",
]
