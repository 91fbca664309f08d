"""Whether KVM works here: found out once, by trying, with a limit; then remembered.

/dev/kvm may exist and not work: under some hypervisors a stock kernel hangs in its first milliseconds.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from lkm.errors import MachineError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.progress import SILENT, Progress
from lkm.vm import qemu
from lkm.vm.qemu import Accel, Clock, Config

__all__ = ["TRIAL_LIMIT", "choose", "machine_config", "remembered"]

TRIAL_LIMIT = 10.0
"""Seconds that a kernel gets to boot under KVM; it needs less than one where KVM works."""
_DEVICE = Path("/dev/kvm")


def machine_config(
    kernel: Kernel,
    *,
    clock: Clock = Clock.VIRTUAL,
    memory_mib: int | None = None,
    progress: Progress = SILENT,
) -> Config:
    """The configuration of a machine for this kernel, with the fastest accelerator that works here.

    `memory_mib` is as much as the kernel wants, for None.
    """
    accel = choose(kernel, progress=progress)
    memory = kernel.memory_mib if memory_mib is None else memory_mib
    return Config(kernel.arch, accel, clock, memory, append=kernel.append)


def choose(kernel: Kernel, *, progress: Progress = SILENT) -> Accel:
    """KVM where it was seen to work, TCG everywhere else; `$LKM_ACCEL` decides where it is set.

    The first call on a computer with a usable-looking /dev/kvm tries it, for TRIAL_LIMIT at most.
    """
    if given := os.environ.get("LKM_ACCEL"):
        try:
            return Accel(given)
        except ValueError:
            raise UsageError(
                f"LKM_ACCEL is {given!r}", hint="LKM_ACCEL=tcg or LKM_ACCEL=kvm"
            ) from None
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accel.TCG
    config = Config(kernel.arch, accel=Accel.KVM)
    if (known := remembered(config)) is not None:
        return known
    return _find_out(kernel, config, progress)


def remembered(config: Config) -> Accel | None:
    """What an earlier trial on this host kernel with this QEMU found."""
    try:
        memory = json.loads(_memory().read_text())
        return Accel(memory["accel"]) if memory["key"] == _key(config) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find_out(kernel: Kernel, config: Config, progress: Progress) -> Accel:
    from lkm import atomic
    from lkm.vm import snapshot

    what = "a trial of /dev/kvm"
    with atomic.disk_errors(what), atomic.exclusive(snapshot.trial_path(), what, progress=progress):
        # Another process may have found it out while we waited.
        if (known := remembered(config)) is not None:
            return known
        verdict, why = _try(kernel, config, progress)
        found = {"key": _key(config), "accel": verdict, "why": why}
        atomic.write(_memory(), json.dumps(found, indent=1))
    return verdict


def _try(kernel: Kernel, config: Config, progress: Progress) -> tuple[Accel, str]:
    from lkm.vm.snapshot import boot_trial

    progress.step(f"trying /dev/kvm (at most {TRIAL_LIMIT:g} s, once)")
    try:
        boot_trial(kernel, config, limit=TRIAL_LIMIT)
    except MachineError as error:
        return Accel.TCG, str(error)
    return Accel.KVM, "a kernel booted under it"


def _memory() -> Path:
    return cache_dir() / "accel.json"


def _key(config: Config) -> str:
    return f"{platform.release()} {qemu.identity(config)}"
