"""What the tests of one pytest process share: kernels, builds, frozen machines, one that is being restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.errors import LkmError

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel
    from lkm.api.objects import Objects
    from lkm.api.vm import VM, Snapshot
    from lkm.pytest_plugin.settings import Settings
    from lkm.vm.link import Link
    from lkm.vm.snapshot import Snapshot as Frozen

__all__ = ["Session"]


class Session:
    """Kernels, builds and machines for tests that name the kernels `wanted`. `close` ends what no test has."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self._wanted = tuple(wanted)
        self._kernels: dict[str | None, Kernel] = {}
        self._built: dict[tuple[Path, str], Objects | LkmError] = {}
        self._prepared: dict[tuple[str, Settings], Snapshot] = {}
        self._waiting: tuple[Frozen, Link] | None = None

    def kernel(self, name: str | None) -> Kernel:
        """The kernel of that name. Raises what `lkm.kernel` does."""
        from lkm.api.kernel import kernel

        if name not in self._kernels:
            self._fetch_all()
            self._kernels[name] = kernel(name)
        return self._kernels[name]

    def _fetch_all(self) -> None:
        """Fetch what tests will ask for and this disk has not, side by side; each meets its own error."""
        wanted, self._wanted = self._wanted, ()
        if len(wanted) > 1:
            from lkm.kernels import several

            with contextlib.suppress(LkmError):
                several.fetch(wanted, newest=False)

    def build(self, path: Path, kernel: Kernel) -> Objects:
        """What the source at `path` makes, built once, or its error again. Raises what `lkm.build` does."""
        from lkm.api.objects import build

        key = path, kernel.release
        if key not in self._built:
            try:
                self._built[key] = build(path, kernel)
            except LkmError as error:
                self._built[key] = error
        made = self._built[key]
        if isinstance(made, LkmError):
            made.__traceback__ = None
            raise made
        return made

    def machine(self, kernel: Kernel, settings: Settings) -> VM:
        """A fresh machine, with the modules of the settings loaded. Raises what `Kernel.machine` does."""
        from lkm.api.vm import VM

        if not settings.modules:
            frozen = self.frozen(kernel, settings)
            link = self._restoring(frozen)
            return VM(kernel, frozen, timeout=settings.timeout, link=link)
        machine = self._with_modules(kernel, settings).machine()
        if settings.timeout:
            machine.timeout = settings.timeout
        return machine

    def frozen(self, kernel: Kernel, settings: Settings) -> Frozen:
        """What the machines for such tests are restored from."""
        return kernel.frozen(memory=settings.memory, packages=settings.packages)

    def restore_ahead(self, name: str | None, settings: Settings) -> None:
        """Begin to restore what the next test asks for: QEMU does it on another core meanwhile."""
        from lkm.vm import snapshot

        # The next test meets what goes wrong here.
        known = self._kernels.get(name)
        if known is None or settings.modules or settings.packages or self._waiting:
            return
        with contextlib.suppress(LkmError):
            frozen = self.frozen(known, settings)
            self._waiting = frozen, snapshot.restore(frozen)

    def close(self) -> None:
        """End the machine that waits and what machines were forked off, and let the frozen ones go."""
        self._restoring(None)
        for taken in self._prepared.values():
            taken.close()
        self._prepared.clear()
        from lkm.vm import forks

        forks.close()

    def _restoring(self, frozen: Frozen | None) -> Link | None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        if waiting[0] == frozen:
            return waiting[1]
        waiting[1].close()
        return None

    def _with_modules(self, kernel: Kernel, settings: Settings) -> Snapshot:
        from dataclasses import replace

        from lkm.api.vm import VM

        key = kernel.release, replace(settings, kernel=(), timeout=None, expect=())
        if key not in self._prepared:
            with VM(kernel, self.frozen(kernel, settings)) as machine:
                loaded: set[str] = set()
                for name in settings.modules:
                    if name.replace("-", "_") not in loaded:
                        machine.modprobe(name)
                        loaded = {module.name for module in machine.modules()}
                machine.machine.inventory()
                self._prepared[key] = machine.snapshot()
        return self._prepared[key]
