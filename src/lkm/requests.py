"""Modules that a kernel asks modprobe for, request_module(): found out on one machine, there on the next.

A guest has no modprobe. Its agent tells in the log what was asked for (vm/agent/main.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lkm.kernels.kernel import Kernel
from lkm.log import Record
from lkm.targets import Target, needed

__all__ = ["asked", "hint", "with_requests"]

_ASKED = re.compile(r"modprobe -q -- (\S+)")


def asked(records: Iterable[Record]) -> tuple[str, ...]:
    """The names and aliases that were asked for, each once."""
    found = (_ASKED.fullmatch(record.text) for record in records)
    return tuple(dict.fromkeys(match[1] for match in found if match))


def hint(records: Iterable[Record]) -> str | None:
    """What to say of a load that was refused, where the kernel had asked for modules."""
    if names := asked(records):
        return f"the kernel asked modprobe for {', '.join(names)}, which was not there"
    return None


def with_requests(
    target: Target, beside: Sequence[Target], kernel: Kernel, names: Iterable[str]
) -> Target:
    """The target, with those modules of `beside` and of the kernel that `names` mean among its requests."""
    found = (_meant(name, target, beside, kernel) for name in names)
    return replace(target, requests=tuple(dict.fromkeys((*target.requests, *filter(None, found)))))


def _meant(name: str, target: Target, beside: Sequence[Target], kernel: Kernel) -> str | None:
    from lkm.kernels.modules import answering, matches

    for other in beside:
        if any(matches(alias, name) for alias in (other.name, *other.object.aliases)):
            return None if target in needed(other, beside) else other.name
    return answering(kernel, name)
