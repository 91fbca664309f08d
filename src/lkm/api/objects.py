"""Module sources built for a kernel, as objects by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lkm.api.kernel import Kernel
from lkm.ko import KernelObject
from lkm.progress import SILENT, Progress
from lkm.targets import Target, Targets, targets_of

__all__ = ["ModuleObject", "Objects", "build"]


@dataclass(frozen=True)
class ModuleObject:
    """A module that can be loaded, with those it was built or lies beside, which it may need."""

    target: Target
    targets: Targets

    @property
    def name(self) -> str:
        """The module's name, with underscores."""
        return self.target.name

    @property
    def path(self) -> Path:
        """The .ko, with its debug info."""
        return self.target.path

    @property
    def facts(self) -> KernelObject:
        """What the .ko says of itself."""
        return self.target.object


class Objects(Mapping[str, ModuleObject]):
    """What a build made, by the modules' names; `-` and `_` are the same. `path` is what was built."""

    def __init__(self, path: Path, targets: Targets) -> None:
        self.path = path
        self._objects = {each.name: ModuleObject(each, targets) for each in targets.named}

    def __getitem__(self, name: str) -> ModuleObject:
        return self._objects[name.removesuffix(".ko").replace("-", "_")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def __repr__(self) -> str:
        return f"<Objects {', '.join(self._objects)} of {self.path}>"


def build(
    source: str | os.PathLike[str], kernel: Kernel, *, progress: Progress = SILENT
) -> Objects:
    """Build a directory or a .c file for a kernel, with its own compiler; or take a .ko as it is.

    Unchanged input runs nothing. Raises BuildError with the compiler's words, UsageError where there is
    no module, HostError.
    """
    path = Path(source)
    return Objects(path, targets_of(path, kernel.facts, progress=progress))
