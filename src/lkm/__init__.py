"""Build, load and judge Linux kernel modules, on real kernels, in machines that are thrown away.

kernel = lkm.kernel("6.1")
objects = lkm.build("examples/getargs", kernel)
with kernel.machine() as vm, vm.insmod(objects["getargs"], intparam=123) as module:
    assert "intparam\\t= 123" in module.log
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lkm._version import VERSION

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel, kernel
    from lkm.api.log import Log
    from lkm.api.module import Module
    from lkm.api.objects import ModuleObject, Objects, build
    from lkm.api.vm import VM, Snapshot
    from lkm.errors import (
        BuildError,
        CommandError,
        HostError,
        KernelProblem,
        LkmError,
        LoadError,
        MachineError,
        ModuleFailure,
        StateError,
        UnloadError,
        UsageError,
    )  # fmt: skip
    from lkm.kernels.dkms import package
    from lkm.log import Record
    from lkm.problems import Problem
    from lkm.vm.file import GuestFile
    from lkm.vm.path import GuestPath
    from lkm.vm.process import Completed, GuestProcess

__version__ = VERSION

__all__ = [
    "VM",
    "BuildError",
    "CommandError",
    "Completed",
    "GuestFile",
    "GuestPath",
    "GuestProcess",
    "HostError",
    "Kernel",
    "KernelProblem",
    "LkmError",
    "LoadError",
    "Log",
    "MachineError",
    "Module",
    "ModuleFailure",
    "ModuleObject",
    "Objects",
    "Problem",
    "Record",
    "Snapshot",
    "StateError",
    "UnloadError",
    "UsageError",
    "__version__",
    "build",
    "kernel",
    "package",
]

_HOMES = {
    "lkm.api.kernel": ("Kernel", "kernel"),
    "lkm.api.log": ("Log",),
    "lkm.api.module": ("Module",),
    "lkm.api.objects": ("ModuleObject", "Objects", "build"),
    "lkm.api.vm": ("VM", "Snapshot"),
    "lkm.errors": (
        "BuildError", "CommandError", "HostError", "KernelProblem", "LkmError", "LoadError", "MachineError",
        "ModuleFailure", "StateError", "UnloadError", "UsageError",
    ),
    "lkm.kernels.dkms": ("package",),
    "lkm.log": ("Record",),
    "lkm.problems": ("Problem",),
    "lkm.vm.file": ("GuestFile",),
    "lkm.vm.path": ("GuestPath",),
    "lkm.vm.process": ("Completed", "GuestProcess"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the command line imports this package too, and has milliseconds.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'lkm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
