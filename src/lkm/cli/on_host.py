"""Loading on this computer: what is promised before, and what is told after, both on stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.cli.common import kernel_named, require_no_other
from lkm.cli.render import Style
from lkm.host import HostMachine, require_privilege, require_support

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.machine import LoadedModule, Taint
    from lkm.preflight import Preflight
    from lkm.progress import Progress

__all__ = ["kernel_for", "preflight_for", "visiting"]

_DAMAGED = {"D": "oopsed", "B": "found a bad page", "M": "had a hardware fault"}
"""Taints after which the kernel is not to be trusted (Documentation/admin-guide/tainted-kernels.rst)."""


@contextlib.contextmanager
def visiting(
    arguments: argparse.Namespace, verb: str, *, leaves_nothing: bool = False
) -> Iterator[HostMachine]:
    """This computer, for a verb that loads or unloads; its taint is told at the end, whatever happened.

    With `leaves_nothing` so is what is still loaded and was not before. Raises UsageError and HostError
    before anything is touched.
    """
    require_no_other(arguments)
    require_support()
    require_privilege(verb)
    _say(
        "this computer's own kernel is used: lkm cannot promise that it survives, a panic is yours"
    )
    with HostMachine() as machine:
        loaded = {module.name for module in machine.modules()}
        try:
            yield machine
        finally:
            if leaves_nothing:
                _tell_left([module for module in machine.modules() if module.name not in loaded])
            _tell_taint(machine.taint())


def kernel_for(source: str, progress: Progress) -> Kernel:
    """The running kernel: with its toolchain for a source, as it is for a .ko."""
    if ".ko" not in Path(source).suffixes[-2:]:
        return kernel_named("host", progress)
    from lkm.kernels import host

    return host.running()


def preflight_for(kernel: Kernel) -> Preflight:
    """What is known of the running kernel; where that is not enough to check anything, it is said."""
    from lkm.preflight import prepare

    preflight = prepare(kernel)
    if preflight.blind:
        _say(f"the module cannot be checked before it is loaded: {preflight.blind}")
    return preflight


def _tell_left(modules: Sequence[LoadedModule]) -> None:
    if not modules:
        return
    free = [each.name for each in modules if not each.refcount and not each.permanent]
    remedy = f"; sudo lkm rmmod --host {' '.join(free)}" if free else ""
    _say(f"still loaded, and not before: {' '.join(each.name for each in modules)}{remedy}")


def _tell_taint(taint: Taint) -> None:
    before, after = (letters or "none" for letters in (taint.before, taint.after))
    _say(f"taint of this computer: {before} before, {after} after")
    for letter in (set(taint.after) - set(taint.before)) & _DAMAGED.keys():
        _say(f"its kernel {_DAMAGED[letter]} (taint {letter}): save your work, then sudo reboot")


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"{Style(sys.stderr).yellow('lkm:')} {text}", file=sys.stderr, flush=True)
