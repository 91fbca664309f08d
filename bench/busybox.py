"""What one does without lkm: a busybox initrd that loads a module, booted by QEMU, its console read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from lkm.kernels.kernel import Kernel
from lkm.vm.guest import busybox_binary
from lkm.vm.initramfs import Entry, archive

_INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox insmod /hello.ko
/bin/busybox rmmod hello
/bin/busybox dmesg | /bin/busybox grep hello:
/bin/busybox poweroff -f
"""


def boot_and_load(kernel: Kernel, image: bytes, home: Path) -> Callable[[], None]:
    """A job that boots the kernel, loads and unloads hello.ko, and checks the log it prints."""
    initrd = home / "initrd"
    initrd.write_bytes(
        archive(
            [
                Entry("bin", 0o040755),
                Entry("dev", 0o040755),
                Entry("dev/console", 0o020600, device=(5, 1)),
                Entry("init", 0o100755, _INIT),
                Entry("bin/busybox", 0o100755, busybox_binary(kernel.toolchain).read_bytes()),
                Entry("hello.ko", 0o100644, image),
            ]
        )
    )
    argv = [
        f"qemu-system-{kernel.arch.name}", "-nodefaults", "-no-user-config", "-display", "none",
        "-accel", "tcg", "-M", "q35", "-m", "128M", "-no-reboot", "-serial", "stdio",
        "-kernel", str(kernel.image), "-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip

    def job() -> None:
        done = subprocess.run(
            argv, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120
        )
        assert b"hello: exit" in done.stdout, done.stdout

    return job
