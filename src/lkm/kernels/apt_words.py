"""What apt's words mean: refused, no space, no network."""

from __future__ import annotations

import re

from lkm import atomic
from lkm.errors import HostError

__all__ = ["GONE", "REFUSED", "failure"]

REFUSED = re.compile(
    r"GPG error|NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|not available or not signed"
    r"|verification|Hash Sum mismatch|unexpected size|cannot be authenticated|Mirror sync in progress"
)
GONE = re.compile(r" 404( |$)")
"""The mirror's answer for a package that it has no more."""
_FULL = re.compile(r"No space left|[Dd]isk quota exceeded|enough free space|write error.*space")
_OFFLINE = re.compile(
    r"Could not resolve|Temporary failure|Could not connect|Cannot initiate the connection|timed out"
    r"|Network is unreachable|No route to host|Connection failed|Connection refused|Unable to connect"
)


def failure(what: str, output: str) -> HostError:
    """The error for apt's (or mmdebstrap's) `output`: refused, no space, no network, or its words."""
    lines = output.splitlines()
    said = [line.strip() for line in lines if line.startswith(("E: ", "W: ", "Err:", "  "))]
    evidence = tuple(line for line in said if not line.startswith("dlstatus"))[-8:]
    if _FULL.search(output):
        return atomic.no_space(what, tuple(line for line in evidence if _FULL.search(line))[-2:])
    if REFUSED.search(output):
        return HostError(
            f"refused: {what} failed verification",
            evidence=evidence,
            hint="try another mirror in LKM_DEBIAN_MIRROR, and check this computer's clock",
        )
    if _OFFLINE.search(output):
        return HostError(
            f"{what} cannot be fetched: the mirror cannot be reached",
            evidence=evidence,
            hint="check the network and apt's proxy settings, or set LKM_DEBIAN_MIRROR",
        )
    return HostError(
        f"{what} cannot be had from the mirror",
        evidence=evidence or tuple(lines[-8:]),
        hint="see what is offered: lkm kernel list --available",
    )
