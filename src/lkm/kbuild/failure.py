"""Why a build failed, as an error that says what to type next."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lkm.errors import BuildError, HostError
from lkm.kbuild import diagnostics
from lkm.kbuild.diagnostics import Diagnostic
from lkm.kbuild.make import Outcome, Place
from lkm.kbuild.workdir import WorkDir
from lkm.kernels.kernel import Kernel
from lkm.project import FILE

__all__ = ["failure", "no_space"]


def failure(
    place: Place, outcome: Outcome, found: Sequence[Diagnostic], work: WorkDir, step: str = ""
) -> BuildError | HostError:
    """The error for a make that failed or was ended; `found` is what its output says, `step` what was done."""
    from lkm.kbuild import goals  # only a failure needs it

    if (
        any("No space left on device" in line for line in outcome.lines)
        and _free(work.tree) < 16 << 20
    ):
        return no_space(work.tree)
    if killed := _killed(outcome):
        return HostError(
            f"the build of {place.source.name} for {place.kernel.release} was killed, not by lkm: {killed}",
            evidence=diagnostics.tail(outcome.lines),
            hint="free some memory and try again; journalctl -k says whom the kernel killed for want of it",
        )
    errors = sum(diagnostic.severity == "error" for diagnostic in found)
    if outcome.stopped:
        why = f": its build {outcome.stopped}, and was ended"
    else:
        why = (
            f": {errors} error{'s' * (errors > 1)}"
            if errors
            else f": {step or f'make ended with {outcome.returncode}'}"
        )
    shown = [line for diagnostic in found for line in diagnostic.lines]
    if not errors:
        shown += diagnostics.tail(outcome.lines)
    return BuildError(
        f"{place.source.name} does not build for {place.kernel.release}{why}",
        argv=outcome.argv,
        returncode=outcome.returncode,
        diagnostics=shown,
        log_path=work.log,
        hint=(_time_hint(outcome) if outcome.stopped else None)
        or _hint(place.kernel, found)
        or _program_hint(place, outcome)
        or goals.hint(place.source)
        or f"less {work.log}",
    )


def _killed(outcome: Outcome) -> str | None:
    """By what somebody else ended it: a signal for the sandbox, or for the compiler in it."""
    if outcome.stopped:
        return None
    if outcome.returncode < 0:
        return f"signal {-outcome.returncode}"
    said = (line for line in outcome.lines if re.search(_KILLED, line))
    return next(said, None)


_KILLED = r"fatal error: Killed signal terminated program "
"""What gcc's driver says (gcc/gcc.cc, 14); the kernel kills for want of memory."""


def _time_hint(outcome: Outcome) -> str | None:
    if not (outcome.stopped or "").startswith("ran longer"):
        return None
    return f"LKM_BUILD_TIMEOUT={3 * outcome.seconds:.0f} lets it take so many seconds"


# dash: `/bin/sh: 1: pkg-config: not found`; bash: `line 1: pkg-config: command not found`
_NO_PROGRAM = r".*?(?P<name>[\w.+-]+): (?:command )?not found"


def _program_hint(place: Place, outcome: Outcome) -> str | None:
    """What to do where the build called a program that the toolchain root does not have."""
    for line in reversed(outcome.lines):
        if not place.source.file and (match := re.fullmatch(_NO_PROGRAM, line)):
            return (
                f"name the Debian package that has {match['name']} in {place.source.directory / FILE}:"
                ' [build] and below it packages = ["..."]'
            )
    return None


# scripts/mod/modpost.c: `"SYMBOL" [MODULE.ko] undefined!`; Linux 7.3: `MODULE.ko: symbol 'SYMBOL' undefined!`
_UNDEFINED = r"""modpost: (?:"(?P<old>[^"]+)" |.*symbol '(?P<new>[^']+)' ).*undefined!"""


def _hint(kernel: Kernel, found: Sequence[Diagnostic]) -> str | None:
    for diagnostic in found:
        if match := re.fullmatch(_UNDEFINED, diagnostic.text):
            exports = kernel.build_dir_on_host / "Module.symvers"
            symbol = match["old"] or match["new"]
            return f"{kernel.release} exports no such symbol: grep -w {symbol} {exports}"
    return None


def _free(path: Path) -> int:
    status = os.statvfs(next(parent for parent in (path, *path.parents) if parent.exists()))
    return status.f_bavail * status.f_frsize


def no_space(path: Path) -> HostError:
    """The error for a full disk below `path`."""
    return HostError(
        f"no space left for {path}: {_free(path) / (1 << 20):.1f} MiB free",
        hint=f"df -h {path.parent}",
    )
