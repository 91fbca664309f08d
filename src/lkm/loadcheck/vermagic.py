"""Version magic: same_magic() of kernel/module/version.c, and what a difference means."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkm.loadcheck.findings import Finding

if TYPE_CHECKING:
    from lkm.loadcheck.case import Case

__all__ = ["vermagic_differs"]


def vermagic_differs(case: Case, theirs: str) -> Finding | None:
    """The refusal of a module with another version magic; None where it is the kernel's.

    With modversions and CRCs in the module the release is not compared: CRCs are, symbol by symbol.
    """
    ours = case.facts.vermagic
    if "MODVERSIONS" in case.facts.options and case.image.versions is not None:
        if theirs[len(theirs.partition(" ")[0]) :] == ours[len(ours.partition(" ")[0]) :]:
            return None
    elif theirs == ours:
        return None
    return Finding(
        _what(theirs, ours),
        _why(theirs, ours),
        errno=errno.ENOEXEC,
        dmesg=(f"{case.image.name}: version magic '{theirs}' should be '{ours}'",),
        hint=f"build it for this kernel: lkm build SOURCE -k {case.facts.release}",
    )


def _what(theirs: str, ours: str) -> str:
    release = theirs.partition(" ")[0]
    if release == ours.partition(" ")[0]:
        return "built for this release with other options"
    return f"built for {_described(release)}" if release else "an empty version magic"


def _described(release: str) -> str:
    from lkm.kernels.catalog import flavour_of

    flavour = flavour_of(release)
    return f"{release}, flavour {flavour}" if flavour else release


def _why(theirs: str, ours: str) -> str:
    """Which words of the two differ."""
    (built, *has), (release, *wants) = theirs.split(" "), ours.split(" ")
    parts = [f"{built} is not {release}"] if built != release else []
    if missing := [word for word in wants if word not in has]:
        parts.append(f"it lacks {', '.join(missing)}")
    if extra := [word for word in has if word not in wants]:
        parts.append(f"it has {', '.join(extra)}")
    return "; ".join(parts) or "its words are in another order"
