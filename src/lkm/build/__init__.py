"""Building: real Kbuild in a sandbox, results kept by their content."""

from lkm.build.builder import Build, BuiltObject, build, clean
from lkm.build.diagnostics import Diagnostic
from lkm.build.limits import LIMITS, Limits

__all__ = ["LIMITS", "Build", "BuiltObject", "Diagnostic", "Limits", "build", "clean"]
