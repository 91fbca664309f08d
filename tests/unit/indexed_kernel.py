"""A kernel's index of modules, and nothing of it besides."""

from __future__ import annotations

from pathlib import Path

from lkm.arch import X86_64
from lkm.kernels.kernel import Kernel, Toolchain

DEP = """\
kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/net-failover.ko.xz kernel/net/core/failover.ko.xz
kernel/net/core/net-failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/fs/odd-name.ko: kernel/net/core/failover.ko.xz
"""
BUILTIN = "kernel/drivers/virtio/virtio.ko\nkernel/drivers/char/virtio-console.ko\n"


def indexed(top: Path) -> Kernel:
    directory = top / "lib/modules/6.12.1-cloud-amd64"
    directory.mkdir(parents=True)
    (directory / "modules.dep").write_text(DEP)
    (directory / "modules.builtin").write_text(BUILTIN)
    return Kernel(
        release="6.12.1-cloud-amd64",
        arch=X86_64,
        provider="debian",
        image=top / "vmlinuz",
        build_dir="/usr/src/linux",
        binds=((top / "src", "/usr/src/linux"),),
        config=top / "config",
        toolchain=Toolchain("trixie", top / "root", "gcc-14", "00"),
        identity="00",
        modules_dir=directory,
    )
