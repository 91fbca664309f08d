"""Building: real Kbuild in a sandbox, results kept by their content."""

from lkm.kbuild.builder import Build, BuiltObject, build, clean
from lkm.kbuild.diagnostics import Diagnostic
from lkm.kbuild.limits import LIMITS, Limits

__all__ = ["LIMITS", "Build", "BuiltObject", "Diagnostic", "Limits", "build", "clean"]
