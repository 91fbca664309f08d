"""QEMU's command line, made by a pure function, and how its process is connected to this one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import proc
from lkm.arch import Arch
from lkm.errors import UsageError
from lkm.vm.wire import SESSIONS

if TYPE_CHECKING:
    from lkm.vm.rootfs import Rootfs

__all__ = [
    "CHARDEVS",
    "CONSOLE_SIZE",
    "WINDOW_SIZE",
    "Accel",
    "Clock",
    "Config",
    "Launch",
    "argv",
    "cmdline",
    "identity",
]

CONSOLE_SIZE = 1 << 20
"""How much of the end of the console is kept, in bytes."""

WINDOW_SIZE = 1 << 22
"""How much memory host and guest share, in bytes: what is put and got in bulk goes through it."""

WINDOW_ADDRESS = 0x100000000
"""Where the guest sees it: above its own memory, so that the kernel takes no notice of it."""

CHARDEVS = ("qmp", "watch", "mux", *(f"session{i}" for i in range(SESSIONS)))
"""The ways into a machine: QEMU's monitor, the agent's first process, its channels, its sessions."""


class Accel(StrEnum):
    """Who executes the guest's instructions."""

    TCG = "tcg"
    KVM = "kvm"


class Clock(StrEnum):
    """How the guest's time passes.

    `virtual`: with its instructions, and an idle guest skips to its next timer (-icount sleep=off):
    `msleep(1000)` costs nothing, and runs repeat themselves. `real`: with the wall clock, for a machine
    that waits for a person.
    """

    VIRTUAL = "virtual"
    REAL = "real"


@dataclass(frozen=True)
class Config:
    """What a machine is made of. Two equal ones have the same frozen state."""

    arch: Arch
    accel: Accel = Accel.TCG
    clock: Clock = Clock.VIRTUAL
    memory_mib: int = 128
    cpus: int = 1
    append: str = ""
    rootfs: Rootfs | None = None

    def __post_init__(self) -> None:
        if not 64 <= self.memory_mib <= 65536:
            raise UsageError(f"a machine of {self.memory_mib} MiB", hint="give 64 to 65536 MiB")

    @property
    def skips_idle(self) -> bool:
        """Whether its clock jumps to the next timer when it idles; a processor of KVM has the real clock."""
        return self.clock is Clock.VIRTUAL and self.accel is Accel.TCG

    def to_dict(self) -> dict[str, object]:
        """The configuration as JSON can hold it."""
        document = {**asdict(self), "arch": self.arch.name}
        del document["rootfs"]
        return {**document, "rootfs": self.rootfs.name} if self.rootfs else document


@dataclass(frozen=True)
class Launch:
    """One start of QEMU: where its RAM is, how it is entered, what it boots (nothing, to restore).

    A guest that is to be restored stands still until the monitor says `cont`.

    `chardevs` maps a name of CHARDEVS to a descriptor: of a connected socket, or with `listening` of one
    that QEMU is to accept on; what is not named leads nowhere. `window` is a file of WINDOW_SIZE bytes that
    the guest sees as memory of a PCI device. `share` makes the guest write to the RAM
    file itself.
    """

    ram: Path
    share: bool
    chardevs: Mapping[str, int]
    window: Path
    listening: bool = False
    image: Path | None = None
    initramfs: Path | None = None


def cmdline(config: Config) -> str:
    """The guest's command line (Documentation/admin-guide/kernel-parameters.txt).

    `nokaslr` makes addresses the same in every restore; `rcu_expedited` makes grace periods cost no
    timer; `panic=-1` reboots at once, which QEMU turns into a halt; `unknown_nmi_panic` lets the host ask
    a spinning kernel where it is; `printk.devkmsg=on` lifts the rate limit of the agent's marks.
    """
    words = [
        "console=ttyS0", "loglevel=8", "printk.time=1", "printk.devkmsg=on", "log_buf_len=1M", "panic=-1",
        "unknown_nmi_panic=1", "nokaslr", "rcupdate.rcu_expedited=1", "random.trust_cpu=on",
        "swiotlb=noforce", f"lkm_window={WINDOW_SIZE}@{WINDOW_ADDRESS}",
    ]  # fmt: skip
    return " ".join([*words, config.append]).strip()


_LEFT_OUT = "sata=off,smbus=off,usb=off,vmport=off,graphics=off"
"""Devices of q35 that no kernel needs to boot: what is not there cannot be attacked."""


def argv(config: Config, launch: Launch) -> list[str]:
    """The whole command line of QEMU. Pure."""
    line = [
        f"qemu-system-{config.arch.name}", "-name", "lkm", "-nodefaults", "-no-user-config", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-action", "reboot=shutdown,shutdown=pause",
        "-M", f"q35,memory-backend=mem,{_LEFT_OUT}",
        "-m", f"{config.memory_mib}M,maxmem={config.memory_mib + 1024}M",
        "-smp", str(config.cpus),
        "-object", f"memory-backend-file,id=mem,size={config.memory_mib}M,mem-path={_escaped(launch.ram)},"
        f"share={'on' if launch.share else 'off'}",
        *_accel(config),
    ]  # fmt: skip
    line += [
        "-object",
        f"memory-backend-file,id=window,size={WINDOW_SIZE},share=on,mem-path={_escaped(launch.window)}",
        "-device", f"virtio-pmem-pci,memdev=window,memaddr={WINDOW_ADDRESS:#x}",
    ]  # fmt: skip
    line += [*_chardev("qmp", launch), "-mon", "chardev=qmp,mode=control"]
    line += ["-chardev", f"ringbuf,id=console,size={CONSOLE_SIZE}", "-serial", "chardev:console"]
    line += ["-device", f"virtio-serial-pci,id=ports,max_ports={len(CHARDEVS) + 1}"]
    for number, name in enumerate(CHARDEVS[1:], start=1):
        port = f"lkm.{name.removeprefix('session')}"
        line += _chardev(name, launch)
        line += ["-device", f"virtserialport,bus=ports.0,nr={number},chardev={name},name={port}"]
    if launch.image and launch.initramfs:
        line += ["-kernel", str(launch.image), "-initrd", str(launch.initramfs)]
        line += ["-append", cmdline(config)]
    else:
        line += ["-incoming", "defer", "-S"]
    return line


def identity(config: Config) -> str:
    """What of this QEMU matters to a frozen machine: a string that changes when QEMU is replaced."""
    tool = Path(proc.find_tool(f"qemu-system-{config.arch.name}")).resolve()
    stat = tool.stat()
    return f"{tool}:{stat.st_size}:{stat.st_mtime_ns}"


def _accel(config: Config) -> list[str]:
    if config.accel is Accel.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    # QEMU 7.2 leaves garbage in EFLAGS after cmpxchg16b, which kmalloc() has used since Linux 6.4; an interrupt
    # at that moment makes it last (IF clear, TF or NT set), and the guest hangs or dies after some hundred MB
    # of traffic. Without the feature the kernel has a way round it (this_cpu_cmpxchg16b_emu).
    # Without erms the kernel copies memory in words: TCG is two to seven times slower at `rep movsb`.
    line = ["-accel", "tcg,tb-size=64", "-cpu", "max,-cx16,-erms"]
    if config.clock is Clock.VIRTUAL:
        line += ["-icount", "shift=2,sleep=off"]
    return line


def _chardev(name: str, launch: Launch) -> list[str]:
    end = launch.chardevs.get(name)
    if end is None:
        return ["-chardev", f"null,id={name}"]
    server = ",server=on,wait=off" if launch.listening else ""
    return ["-chardev", f"socket,id={name},fd={end}{server}"]


def _escaped(path: Path) -> str:
    return os.fspath(path).replace(",", ",,")
