"""Problems in the kernel's own words: oops, BUG, WARNING, panic and the rest. Pure."""

from lkm.problems.finder import Frame, Problem, Process, find, stack, to_dict
from lkm.problems.forms import ProblemKind

__all__ = ["Frame", "Problem", "ProblemKind", "Process", "find", "stack", "to_dict"]
