"""What loading into this computer's kernel needs, each looked at before anything is touched."""

from __future__ import annotations

import re
from pathlib import Path

from lkm.errors import HostError

__all__ = ["require_privilege", "require_support"]

_CAP_SYS_MODULE = 16
"""include/uapi/linux/capability.h; init_module(2) and delete_module(2) ask for it."""

_MODULES = Path("/proc/modules")
_DISABLED = Path("/proc/sys/kernel/modules_disabled")
_STATUS = Path("/proc/self/status")


def require_support(modules: Path = _MODULES) -> None:
    """Raise HostError where the running kernel has no loadable modules (CONFIG_MODULES)."""
    if not modules.exists():
        raise HostError(
            f"this kernel has no loadable module support: {modules} is missing",
            hint="leave out --host: lkm has kernels of its own",
        )


def require_privilege(verb: str, *, status: Path = _STATUS, disabled: Path = _DISABLED) -> None:
    """Raise HostError where this process may not load modules; `verb` is what lkm was asked for."""
    if not _has_capability(status.read_text()):
        raise HostError(
            f"{verb} on this computer needs root: this process lacks CAP_SYS_MODULE",
            hint=f"sudo lkm {verb} --host ...; a container needs the capability itself",
        )
    if disabled.exists() and disabled.read_text().strip() != "0":
        raise HostError(
            f"this kernel loads and unloads no modules any more: {disabled} is set",
            hint="it stays so until the next boot: sudo reboot",
        )


def _has_capability(status: str) -> bool:
    """Whether /proc/PID/status (proc(5)) has the capability in its effective set."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> _CAP_SYS_MODULE & 1)
