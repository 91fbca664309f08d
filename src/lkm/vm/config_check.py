"""Whether a kernel can be a guest at all, by its own .config."""

from __future__ import annotations

from pathlib import Path

from lkm.errors import UsageError

__all__ = ["boot_module_names", "kernel_config"]

_BUILT_IN = (
    "MODULES", "BLK_DEV_INITRD", "DEVTMPFS", "PROC_FS", "SYSFS", "PRINTK", "TTY", "SERIAL_8250_CONSOLE",
    "PCI", "TMPFS",
)  # fmt: skip
_REACHABLE = {"VIRTIO_PCI": "virtio_pci", "VIRTIO_CONSOLE": "virtio_console"}


def kernel_config(path: Path) -> dict[str, str]:
    """CONFIG_ options by their names without the prefix: `y`, `m`, a number, a string with quotes."""
    options: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line[7:].partition("=")
            options[name] = value
    return options


def boot_module_names(release: str, config: dict[str, str]) -> tuple[str, ...]:
    """The modules that must be loaded before the agent can be reached.

    Raises UsageError that lists the options which the kernel lacks.
    """
    missing = [name for name in _BUILT_IN if config.get(name) != "y"]
    missing += [name for name in _REACHABLE if config.get(name) not in ("y", "m")]
    if missing:
        raise UsageError(
            f"the kernel {release} cannot be a guest: its configuration lacks"
            f" {', '.join(f'CONFIG_{name}' for name in missing)}",
            hint="build it with these set (CONFIG_VIRTIO_* may be modules)",
        )
    return tuple(module for name, module in _REACHABLE.items() if config[name] == "m")
