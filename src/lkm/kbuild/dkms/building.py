"""A DKMS source's build: the steps that dkms takes, in the sandbox, in a tree where dkms would have it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lkm import sandbox
from lkm.errors import BuildError
from lkm.kbuild import make
from lkm.kbuild.dkms.conf import Conf
from lkm.kbuild.dkms.reading import DKMS_TREE, binds, script, variables
from lkm.kbuild.limits import Limits, jobs
from lkm.kbuild.make import Outcome, Place
from lkm.kbuild.workdir import Copy, WorkDir
from lkm.kernels.kernel import Kernel
from lkm.sandbox import Bind
from lkm.source import DKMS_CONF, ModuleSource

__all__ = ["argv", "failed_step", "keep_times", "missing", "modules", "place"]


def place(source: ModuleSource, kernel: Kernel, work: WorkDir, conf: Conf) -> Place:
    """Where the sandbox shows a DKMS source: $dkms_tree/NAME/VERSION/build, which its commands name."""
    return Place(source, kernel, work.tree, f"{DKMS_TREE}/{conf.name}/{conf.version}/build")


def argv(
    place: Place, work: WorkDir, conf: Conf, arguments: Sequence[str], limits: Limits
) -> list[str]:
    """The whole command line of a DKMS build; `arguments` are make's variables, which every make gets."""
    kernel = place.kernel
    command = conf.make or f"make -C {variables(kernel)['kernel_source_dir']} M={place.inside}"
    if command.startswith("make"):
        command = f"make -j{jobs()} KERNELRELEASE={kernel.release}{command.removeprefix('make')}"
    pairs = [text for module in conf.modules for text in (module.path, module.file)]
    words = [place.inside, command, conf.pre_build or "", *conf.patches, "--", *pairs]
    return make.limited(
        sandbox.argv(
            kernel.toolchain.root,
            ["/bin/bash", "-c", script("build"), "bash", *words],
            binds=[*binds(kernel, work), Bind(place.tree, place.inside, writable=True)],
            cwd=place.inside,
            env=_environment(kernel, conf, arguments),
        ),
        limits,
    )


def _environment(kernel: Kernel, conf: Conf, arguments: Sequence[str]) -> dict[str, str]:
    compiler = kernel.toolchain.cc
    # GNU make's own form: what comes after -- are variables as from the command line, blanks escaped.
    own = [each for each in arguments if each != "KBUILD_MODPOST_WARN="]  # the package's choice
    overrides = [re.sub(r"([\s\\])", r"\\\1", each).replace("$", "$$") for each in own]
    flags = ["--no-print-directory -Otarget", *(["--", *overrides] if overrides else [])]
    return {
        **variables(kernel),
        "module": conf.name,
        "module_version": conf.version,
        "CC": compiler,
        "KERNEL_CC": compiler,
        "MAKEFLAGS": " ".join(flags),
    }


def keep_times(tree: Path, copies: Sequence[Copy]) -> None:
    """Give the copies the times of the files that they are of, as `cp -a` does: autotools go by them."""
    for copy in copies:
        if copy.path is not None:
            status = Path(copy.path).stat()
            os.utime(tree / copy.name, ns=(status.st_atime_ns, status.st_mtime_ns))


def failed_step(place: Place, outcome: Outcome) -> str:
    """What a build that failed was doing, in one line."""
    try:
        step = (place.tree / ".lkm/stage").read_text("utf-8", "replace").splitlines()[0]
    except (OSError, IndexError):
        return "it did not start"
    kind, _, what = step.partition(" ")
    if kind == "PATCH":
        if outcome.returncode == 5:
            return f"the patch {what} is outside of patches/"
        is_there = (place.tree / "patches" / what).is_file()
        return f"the patch {what} {'does not apply' if is_there else 'is not in patches/'}"
    if kind == "PRE_BUILD":
        return f"PRE_BUILD {what!r} ended with {outcome.returncode}"
    last = next((line for line in reversed(outcome.lines) if not re.match(_MAKE_S_OWN, line)), "")
    return f"MAKE ended with {outcome.returncode}" + (f": {last.strip()}" if last else "")


_MAKE_S_OWN = r"make(\[\d+\])?: |# MAKE |\s*$"


def modules(conf: Conf) -> dict[str, str]:
    """The paths of the modules in the work tree, and the names to publish them by."""
    return {os.path.normpath(module.path): module.file for module in conf.modules}


def missing(place: Place, conf: Conf, outcome: Outcome, log: Path) -> BuildError | None:
    """The error for modules that dkms.conf promises and make did not make; None where all are there."""
    gone = [each.path for each in conf.modules if not (place.tree / each.path).is_file()]
    if conf.modules and not gone:
        return None
    found = sorted(path.relative_to(place.tree).as_posix() for path in place.tree.rglob("*.ko"))
    made = ", ".join(found) or "no module"
    what = ", ".join(gone) if gone else "no module at all"
    return BuildError(
        f"{place.source.name} does not build for {place.kernel.release}: its dkms.conf names {what}, and"
        f" make made {made}",
        argv=outcome.argv,
        returncode=outcome.returncode,
        diagnostics=[f"error: make ended with 0 and did not make {each}" for each in gone],
        log_path=log,
        hint=f"look at BUILT_MODULE_NAME and BUILT_MODULE_LOCATION in {place.source.directory / DKMS_CONF}",
    )
