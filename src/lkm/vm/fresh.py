"""Fresh machines for a kernel, one of which is being restored while the caller does something else.

Imported and started before the rest of lkm is: QEMU needs its time on another core. A guest that waits stands
still, so it costs nothing and its clock is where it was frozen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lkm.closing import Closing
from lkm.kernels.kernel import Kernel
from lkm.progress import SILENT, Progress
from lkm.vm import accel, snapshot
from lkm.vm.qemu import Clock

if TYPE_CHECKING:
    from lkm.vm.link import Link
    from lkm.vm.machine import Machine
    from lkm.vm.rootfs import Rootfs
    from lkm.vm.snapshot import Snapshot

__all__ = ["Fresh", "restored"]


def restored(
    frozen: Snapshot, link: Link | None = None, *, timeout: float | None = None
) -> Machine:
    """A machine of a frozen one; `link` is to a guest that is being restored from it already.

    It is watched for `SETTLE` seconds where nobody says, but on a real clock, where idle time costs something.
    """
    from lkm.machine import DEFAULT_TIMEOUT, REAL_SETTLE, SETTLE
    from lkm.vm.machine import Machine

    return Machine(
        link or snapshot.restore(frozen),
        release=frozen.release,
        timeout=timeout or DEFAULT_TIMEOUT,
        restored_from=None if frozen.fds else frozen.path,
        settle=SETTLE if frozen.config.skips_idle else REAL_SETTLE,
    )


class Fresh(Closing):
    """Makes machines that nobody has used, with the files of `rootfs`.

    Ends the one that waits when it is closed.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        clock: Clock = Clock.VIRTUAL,
        rootfs: Rootfs | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._kernel = kernel
        self._progress = progress
        config = accel.machine_config(kernel, clock=clock, progress=progress)
        self._config = replace(config, rootfs=rootfs) if rootfs else config
        self._waiting: tuple[Link, Snapshot] | None = None
        if found := snapshot.find(kernel, self._config):
            self._waiting = snapshot.restore(found), found

    def machine(self) -> Machine:
        """A fresh machine; the caller closes it. The first time for a kernel this boots it."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            frozen = snapshot.prepare(self._kernel, self._config, progress=self._progress)
            waiting = snapshot.restore(frozen), frozen
        link, origin = waiting
        return restored(origin, link)

    def close(self) -> None:
        """End the machine that waits, if there is one."""
        waiting, self._waiting = self._waiting, None
        if waiting:
            waiting[0].close()
