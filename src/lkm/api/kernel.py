"""A kernel, and machines that run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lkm.atomic import disk_bytes
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    from lkm.api.vm import VM
    from lkm.kernels.kernel import Kernel as Facts
    from lkm.vm.qemu import Config
    from lkm.vm.rootfs import Rootfs
    from lkm.vm.snapshot import Snapshot as Frozen

__all__ = ["Kernel", "kernel"]

_STEP = 64 << 20


class Kernel:
    """A kernel on this disk. `facts` has its release, architecture, and where its files are."""

    def __init__(self, facts: Facts, *, progress: Progress = SILENT) -> None:
        self.facts = facts
        self._progress = progress

    @property
    def release(self) -> str:
        """What `uname -r` says in it."""
        return self.facts.release

    def machine(
        self,
        *,
        memory: int | None = None,
        packages: Sequence[str] = (),
        timeout: float | None = None,
    ) -> VM:
        """A fresh machine: restored, not booted. The first time for a kernel and what is asked here it boots.

        `memory` is in MiB, for None as much as there has to be. `packages` are Debian packages, of the suite of
        the kernel's compiler, that its file system has, with what they depend on; no maintainer script
        has run. `timeout` is in seconds, for each thing that is asked of it.

        Raises HostError when this computer cannot do it, MachineError when the kernel does not come up,
        HostError for a package that there is not.
        """
        from lkm.api.vm import VM

        return VM(self, self.frozen(memory=memory, packages=packages), timeout=timeout)

    def frozen(
        self,
        *,
        memory: int | None = None,
        packages: Sequence[str] = (),
        extra: Rootfs | None = None,
    ) -> Frozen:
        """What `machine` restores, with the files of `extra` besides; the first time it boots.

        Raises what `machine` does.
        """
        from lkm.vm import snapshot

        config = self._config(memory, packages, extra)
        return snapshot.prepare(self.facts, config, progress=self._progress)

    def __repr__(self) -> str:
        return f"<Kernel {self.release}>"

    def _config(
        self, memory: int | None, packages: Sequence[str], extra: Rootfs | None = None
    ) -> Config:
        from lkm.vm import accel

        rootfs = self._rootfs(packages) if packages else None
        if extra:
            rootfs = rootfs.with_more(extra) if rootfs else extra
        if memory is None:
            # While the initramfs is unpacked, its files are in memory twice.
            size = sum(map(disk_bytes, rootfs.directories)) if rootfs else 0
            memory = self.facts.memory_mib + -(-2 * size // _STEP) * (_STEP >> 20)
        config = accel.machine_config(self.facts, memory_mib=memory, progress=self._progress)
        return replace(config, rootfs=rootfs)

    def _rootfs(self, packages: Sequence[str]) -> Rootfs:
        from lkm.kernels import rootfs
        from lkm.vm.rootfs import Rootfs

        suite, arch = self.facts.toolchain.suite, self.facts.arch
        # Since trixie it has the links /bin and /lib64, without which no program starts.
        wanted = ["base-files", *packages]
        unpacked = rootfs.ensure(suite, wanted, arch=arch, progress=self._progress)
        return Rootfs(" ".join(sorted(set(packages))), (unpacked.root,), unpacked.identity)


def kernel(name: str | None = None, *, fetch: bool = True, progress: Progress = SILENT) -> Kernel:
    """The kernel of that name, fetched where it is not on this disk; the default one for None.

    Names are those of the command line: `6.1`, a full release, `debian:trixie`, `tree:PATH`, `host`. With
    `fetch=False` the network is not asked. Raises UsageError for a name that there is not, HostError.
    """
    from lkm.kernels import store

    return Kernel(store.get(name, fetch=fetch, progress=progress), progress=progress)
