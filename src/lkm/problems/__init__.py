"""Problems in the kernel's own words: oops, BUG, WARNING, panic and the rest. Pure."""

from lkm.problems.finder import find, in_module, stack
from lkm.problems.forms import ProblemKind
from lkm.problems.problem import Frame, Problem, Process, Source, to_dict
from lkm.problems.tracing import Module, needs_addresses, trace, users_place

__all__ = [
    "Frame",
    "Module",
    "Problem",
    "ProblemKind",
    "Process",
    "Source",
    "find",
    "in_module",
    "needs_addresses",
    "stack",
    "to_dict",
    "trace",
    "users_place",
]
