"""A module that is loaded on a machine."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lkm.api.log import Log
from lkm.errors import LkmError, UnloadError, UsageError
from lkm.ko import KernelObject
from lkm.params import as_text
from lkm.verbs import read_parameters, write_parameter

if TYPE_CHECKING:
    from lkm.api.vm import VM
    from lkm.params import Parameter
    from lkm.params.rules import Scalar

__all__ = ["LoadedParameter", "LoadedParameters", "Module"]

Read = bool | int | str
"""What a parameter's value is read as."""


class Module:
    """A loaded module; on leaving its `with` block it is unloaded.

    `log` is what the kernel printed from its load to its unload, `log.of(name)` the module's own lines of it.
    """

    def __init__(self, vm: VM, facts: KernelObject | None, name: str, log: Log) -> None:
        self.name = name
        self.log = log
        self.facts = facts
        self._vm = vm
        self._loaded = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._loaded and self._vm.is_running:
                self.rmmod()
        except UnloadError as failure:
            # Somebody has unloaded it by its name.
            if error is None and failure.errno != errno.ENOENT:
                raise
        except LkmError:
            # What happened in the block comes first; the machine is thrown away with the module in it.
            if error is None:
                raise

    @property
    def params(self) -> LoadedParameters:
        """Its parameters in /sys/module, by name."""
        return LoadedParameters(self._vm, self)

    @property
    def refcount(self) -> int:
        """How many use it, as lsmod says."""
        for module in self._vm.modules():
            if module.name == self.name:
                return module.refcount
        raise UsageError(f"{self.name} is not loaded", hint="vm.modules() has what is")

    def rmmod(self) -> None:
        """Unload it. Raises UnloadError that says who holds it, KernelProblem."""
        self._vm.rmmod(self.name)
        self._loaded = False
        self.log.end()

    def __repr__(self) -> str:
        return f"<Module {self.name}{'' if self._loaded else ' (unloaded)'}>"


class LoadedParameters(Mapping[str, "LoadedParameter"]):
    """The parameters of a loaded module that sysfs shows; `-` and `_` are the same."""

    def __init__(self, vm: VM, module: Module) -> None:
        self._vm = vm
        self._module = module

    def __getitem__(self, name: str) -> LoadedParameter:
        for known in self:
            if known.replace("-", "_") == name.replace("-", "_"):
                return LoadedParameter(self._vm, self._module, known)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._vm.machine.parameters(self._module.name))

    def __len__(self) -> int:
        return len(self._vm.machine.parameters(self._module.name))


class LoadedParameter:
    """One parameter of a loaded module, in /sys/module/MODULE/parameters."""

    def __init__(self, vm: VM, module: Module, name: str) -> None:
        self.name = name
        self._vm = vm
        self._module = module

    @property
    def mode(self) -> int:
        """The file's permission bits."""
        return self._vm.machine.parameters(self._module.name)[self.name].mode

    @property
    def text(self) -> str:
        """What the file says, without its newline. Raises UsageError for one that nobody may read."""
        found = read_parameters(self._vm.machine, self._module.name, self.name)
        return found[self.name].value or ""

    def read(self) -> Read | list[Read]:
        """Its value by the type that the .ko tells: bool, int or str; a list of them for an array."""
        declared = self._declared()
        if declared and declared.array:
            parts = self.text.split(",") if self.text else []
            return [_typed(part, declared.kernel_type) for part in parts]
        return _typed(self.text, declared.kernel_type if declared else None)

    def write(self, value: Scalar | Sequence[Scalar]) -> None:
        """Write it as the shell would. Raises UsageError with the kernel's errno when it is refused."""
        write_parameter(self._vm.machine, self._module.name, self.name, as_text(value))

    def _declared(self) -> Parameter | None:
        facts = self._module.facts
        named = (each for each in (facts.parameters if facts else ()) if each.name == self.name)
        return next(named, None)


def _typed(text: str, kernel_type: str | None) -> Read:
    if kernel_type in ("bool", "invbool"):
        return text == "Y"
    if kernel_type in ("charp", "string", None):
        return text
    try:
        return int(text, 0)
    except ValueError:
        return text
