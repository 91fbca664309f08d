"""Boot once, freeze, and restore as often as wanted.

A snapshot is a directory: `ram`, the guest's memory, which every restored machine maps privately;
`state`, the devices' state, a QEMU migration stream (x-ignore-shared leaves the memory out); and
`meta.json`. It is written whole and then renamed, so what is there can be believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import atomic
from lkm.arch import X86_64
from lkm.errors import MachineError
from lkm.kernels.kernel import Kernel
from lkm.progress import SILENT, Progress
from lkm.vm import forks, guest, initramfs, qemu
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.config_check import boot_module_names, kernel_config
from lkm.vm.launch import Started, load_state, save_state, start, until_loaded
from lkm.vm.link import Link
from lkm.vm.qmp import QmpClosed, QmpError
from lkm.vm.stored import idle, meta_of, snapshots_dir, stored
from lkm.vm.wire import LOG_CHANNEL, PROTOCOL, Op

__all__ = [
    "BOOT_LIMIT",
    "Snapshot",
    "boot_trial",
    "find",
    "prepare",
    "remove",
    "restore",
    "trial_path",
]

FORMAT = 2
BOOT_LIMIT = 180.0
"""How long a kernel may take to boot, in seconds of wall time."""
_LOAD_LIMIT = 30.0
_FULL = 1 << 20
"""A disk with fewer bytes free is full: the page that did not fit is why QEMU died."""
_IN_USE = 3600.0
"""A machine restored within so many seconds may be restored again by the same session: it stays."""
_UNUSED = 2 * 86400.0
"""After so many seconds without a restore an outdated snapshot goes."""
_OTHERS = 3
"""How many outdated ones of one kernel and configuration stay, besides those in use."""
_SKIPPED, _WAITED = 20.0, 0.3
"""Seconds of guest time between the agent's hello and the freeze, in which the kernel ends what it does late.

Those that are skipped when it idles last as long as it is busy (cryptomgr_test: some seconds), and little
longer.
"""


@dataclass(frozen=True)
class Snapshot:
    """A frozen machine on this disk.

    One without a name has its files open as `fds`: the memory, the state.
    """

    path: Path
    config: qemu.Config
    release: str
    fds: tuple[int, ...] = ()
    last_channel: int = LOG_CHANNEL

    @property
    def ram(self) -> Path:
        """The guest's memory."""
        return Path(f"/dev/fd/{self.fds[0]}") if self.fds else self.path / "ram"

    @property
    def state(self) -> Path:
        """The state of its devices and processors."""
        return Path(f"/dev/fd/{self.fds[1]}") if self.fds else self.path / "state"


def trial_path() -> Path:
    """What to lock for a `boot_trial`."""
    return snapshots_dir() / "trial"


def _facts(kernel: Kernel, config: qemu.Config) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kernel": kernel.identity,
        "agent": guest.agent_identity(),
        "toolchain": kernel.toolchain.identity,
        "qemu": qemu.identity(config),
        "argv": qemu.argv(config, qemu.Launch(Path("ram"), True, {}, Path("window"))),
        "cmdline": qemu.cmdline(config),
        "config": config.to_dict(),
        **({"rootfs": config.rootfs.identity} if config.rootfs else {}),
    }


def _path(kernel: Kernel, config: qemu.Config) -> Path:
    text = json.dumps(_facts(kernel, config), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:20]
    return snapshots_dir() / f"{kernel.release}-{config.clock}-{key}"


def find(kernel: Kernel, config: qemu.Config) -> Snapshot | None:
    """The snapshot of this kernel, agent, configuration and QEMU, if it is on this disk."""
    path = _path(kernel, config)
    if _is_whole(path):
        return Snapshot(path, config, kernel.release)
    return None


def _is_whole(path: Path) -> bool:
    """Whether the files are as long as they were written: QEMU would fill a short memory with zeros."""
    sizes = meta_of(path).get("sizes")
    try:
        return sizes == _sizes(path)
    except OSError:
        return False


def _sizes(path: Path) -> dict[str, int]:
    return {name: (path / name).stat().st_size for name in ("ram", "state")}


def prepare(kernel: Kernel, config: qemu.Config, *, progress: Progress = SILENT) -> Snapshot:
    """The snapshot, booted and frozen now where it is not on this disk yet.

    Two processes may ask at once: one boots, the other waits. Raises MachineError with the stage and the
    end of the console when the kernel does not come up, UsageError when it cannot be a guest.
    """
    if kernel.arch is X86_64:
        forks.make_library(kernel.toolchain)
    if found := find(kernel, config):
        return found
    path = _path(kernel, config)
    what = f"the frozen machine of {kernel.release}"
    with atomic.exclusive(path, what, progress=progress, wait=BOOT_LIMIT * 2):
        if found := find(kernel, config):
            return found
        with atomic.making(path, what) as partial:
            _make_in_two_tries(kernel, config, partial, progress)
            facts = _facts(kernel, config)
            meta = {**facts, "release": kernel.release, "sizes": _sizes(partial)}
            (partial / "meta.json").write_text(json.dumps(meta, indent=1))
        _drop_outdated(path, kernel, config)
    atomic.sweep(path.parent)
    return Snapshot(path, config, kernel.release)


def restore(snapshot: Snapshot) -> Link:
    """A fresh machine: QEMU is started and told to load the state, and nothing is waited for.

    It ends with the link, or with this process.
    """
    if not snapshot.fds:
        _note_use(snapshot.path)
    with start(
        snapshot.config,
        snapshot.ram,
        pass_fds=snapshot.fds,
        last_channel=snapshot.last_channel,
    ) as started:
        load_state(started.qmp, snapshot.state)
        if snapshot.fds:
            _wait_for(started)
        return started.link()


def _wait_for(started: Started) -> None:
    try:
        until_loaded(started.qmp, time.monotonic() + _LOAD_LIMIT)
    except (QmpClosed, QmpError, TimeoutError) as error:
        raise MachineError(str(error) or "qemu does not answer", stage="restore") from error


def remove(release: str) -> int:
    """Delete the frozen machines of a kernel; returns the bytes that this freed."""
    freed = 0
    for each in stored():
        if each.release == release:
            freed += atomic.disk_bytes(each.path)
            atomic.remove(each.path)
    return freed


def boot_trial(kernel: Kernel, config: qemu.Config, *, limit: float) -> None:
    """Boot the kernel, within `limit` seconds, and throw it away. Raises MachineError.

    The caller holds `atomic.exclusive(trial_path())`.
    """
    prefix = f".partial-{trial_path().name}."
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=snapshots_dir()) as made,
        _space_errors(Path(made), "a trial of /dev/kvm"),
    ):
        home = Path(made)
        boot = _boot_files(kernel, config, home)
        with start(config, home / "ram", boot=boot) as started:
            _await_hello(started, SILENT, limit)


@contextlib.contextmanager
def _space_errors(home: Path, what: str) -> Iterator[None]:
    """A guest whose memory is a file dies of SIGBUS when the disk is full: that is HostError."""
    try:
        with atomic.disk_errors(what):
            yield
    except MachineError as error:
        if shutil.disk_usage(home).free < _FULL:
            raise atomic.no_space(what) from error
        raise


def _make_in_two_tries(kernel: Kernel, config: qemu.Config, home: Path, progress: Progress) -> None:
    # About one boot in forty of a stock 6.12 under TCG (QEMU 7.2) dies of a double fault on its way up.
    try:
        _make(kernel, config, home, progress)
    except MachineError as error:
        if error.stage != "boot":
            raise
        progress.step(f"the boot failed ({error.summary}), once more")
        _make(kernel, config, home, progress)


def _make(kernel: Kernel, config: qemu.Config, home: Path, progress: Progress) -> None:
    progress.step(f"booting {kernel.release} (once)")
    what = f"the frozen machine of {kernel.release}"
    boot = _boot_files(kernel, config, home)
    with _space_errors(home, what), start(config, home / "ram", boot=boot) as started:
        _await_hello(started, progress, BOOT_LIMIT)
        _warm_up(started, _SKIPPED if config.skips_idle else _WAITED)
        progress.step(f"freezing {kernel.release}")
        _freeze(started, home / "state")
    (home / "initramfs").unlink()


def _boot_files(kernel: Kernel, config: qemu.Config, home: Path) -> tuple[Path, Path]:
    archive = home / "initramfs"
    archive.write_bytes(_initramfs(kernel, config))
    with (home / "ram").open("wb") as ram:
        ram.truncate(config.memory_mib << 20)
    return kernel.image, archive


def _initramfs(kernel: Kernel, config: qemu.Config) -> bytes:
    names = boot_module_names(kernel.release, kernel_config(kernel.config))
    modules: list[tuple[str, bytes]] = []
    if names:
        from lkm import ko
        from lkm.kernels import modules as in_tree

        for path in in_tree.load_order(kernel, names):
            modules.append((path.name.partition(".")[0], ko.read_image(path)))
    entries = initramfs.contents(
        agent=guest.agent_binary(kernel.toolchain).read_bytes(),
        busybox=guest.busybox_binary(kernel.toolchain).read_bytes(),
        boot_modules=modules,
    )
    if config.rootfs:
        from lkm.vm import rootfs

        entries += rootfs.entries(config.rootfs)
    return initramfs.archive(entries)


def _await_hello(started: Started, progress: Progress, limit: float) -> None:
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < limit:
        progress.amount(waited, None, "s")
        try:
            frame = started.watch.receive(time.monotonic() + 0.25)
        except ChannelTimeout:
            started.qmp.read()
            if started.qmp.event("SHUTDOWN"):
                raise _boot_failed(started, "the kernel halted before its agent came up") from None
            continue
        except (ChannelClosed, QmpClosed) as error:
            raise _boot_failed(started, f"qemu ended ({error})") from error
        if frame.op != Op.HELLO or int.from_bytes(frame.payload, "little") != PROTOCOL:
            raise _boot_failed(started, f"the agent said {frame!r}")
        return
    raise _boot_failed(started, f"no sign of the agent after {limit:g} s")


def _boot_failed(started: Started, why: str) -> MachineError:
    link = started.link()
    console = link.console().decode(errors="replace")
    said = link.qemu_stderr()
    link.close()
    return MachineError(why, stage="boot", console_tail="\n".join(filter(None, (console, said))))


def _warm_up(started: Started, idle: float) -> None:
    """Have the agent walk its paths once, so that no restored machine takes those page faults.

    Last it makes the inventory that what a module leaves behind is compared with.
    """
    deadline = time.monotonic() + BOOT_LIMIT
    try:
        for op, payload in (
            (Op.SETTLE, struct.pack("<QI", int(idle * 1e9), 1)),
            (Op.PING, bytes(8)),
            (Op.LOAD, bytes(4)),
            (Op.UNLOAD, b"lkm_none\0"),
            (Op.PARAMS, b"lkm_none\0"),
            (Op.KMSG, bytes(4)),
            (Op.STAT, bytes(4) + b"/\0"),
        ):
            for _ in started.session.request(op, payload, deadline=deadline):
                pass
        for _ in range(2):
            for _ in started.session.request(Op.INVENTORY, deadline=deadline):
                pass
        channels = Channel(started.mux)
        request = LOG_CHANNEL << 16 | 1
        channels.send(Op.KMSG, bytes(4), deadline=deadline, request=request)
        for _ in channels.answers(request, deadline):
            pass
    except (ChannelClosed, ChannelTimeout) as error:
        raise _boot_failed(started, f"the agent does not answer ({error})") from error


def _freeze(started: Started, state: Path) -> None:
    try:
        with state.open("wb") as out:
            save_state(started.qmp, out.fileno(), deadline=time.monotonic() + 60)
    except (QmpClosed, QmpError, TimeoutError) as error:
        raise MachineError(str(error) or "qemu does not answer", stage="freeze") from error


def _note_use(home: Path) -> None:
    # A store that is not ours is not ours to tidy either.
    with contextlib.suppress(OSError):
        os.utime(home / "meta.json")


def _drop_outdated(fresh: Path, kernel: Kernel, config: qemu.Config) -> None:
    """Remove what is damaged, and what another lkm left for the same kernel and configuration.

    That other may be a checkout or a version in use: what was restored of late stays.
    """
    others: dict[Path, float] = {}
    for home in fresh.parent.glob("[!.]*"):
        meta = meta_of(home)
        same = (meta.get("release"), meta.get("config")) == (kernel.release, config.to_dict())
        if home != fresh and not meta:
            atomic.remove(home)
        elif home != fresh and same:
            others[home] = idle(home)
    for rank, home in enumerate(sorted(others, key=others.__getitem__)):
        if others[home] > _UNUSED or (rank >= _OTHERS and others[home] > _IN_USE):
            atomic.remove(home)
