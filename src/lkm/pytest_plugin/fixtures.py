"""The fixtures that tests use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lkm.errors import ExcludedError, UsageError
from lkm.pytest_plugin.session import Session
from lkm.pytest_plugin.settings import checked, settings_of, upwards
from lkm.pytest_plugin.trial import NEXT, TRIAL, Load, Trial

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel
    from lkm.api.module import Module
    from lkm.api.objects import ModuleObject, Objects
    from lkm.api.vm import VM

__all__ = ["Build", "Insmod", "lkm_kernel_name", "source_beside"]

_Skipped = pytest.skip.Exception
_OPTIONS = ("packages", "memory", "modules", "timeout")


@pytest.fixture(scope="session", name="_lkm_session")
def lkm_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """What the tests of this process share."""
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    named = (call.params.get("_lkm_kernel") for call in calls if call)
    session = Session(dict.fromkeys(name for name in named if name))
    yield session
    session.close()


@pytest.fixture(scope="session", name="_lkm_kernel")
def lkm_kernel_name(request: pytest.FixtureRequest) -> str | None:
    """The name of the kernel that the test is for; None is the default."""
    name: str | None = getattr(request, "param", None)
    return name


@pytest.fixture(name="_lkm_trial")
def lkm_trial(request: pytest.FixtureRequest, _lkm_session: Session) -> Iterator[Trial]:
    """The test's machines. It goes last, so that every other fixture can still use them."""
    trial = Trial(_lkm_session, settings_of(request.node))
    request.node.stash[TRIAL] = trial
    yield trial
    trial.finish()


@pytest.fixture(scope="session")
def kernel(_lkm_session: Session, _lkm_kernel: str | None) -> Kernel:
    """The lkm.Kernel that the test runs on."""
    return _lkm_session.kernel(_lkm_kernel)


@pytest.fixture
def build(request: pytest.FixtureRequest, kernel: Kernel, _lkm_trial: Trial) -> Build:
    """build() -> lkm.Objects: the module source beside the test, built; build(PATH): that one."""
    _lkm_trial.kernel = kernel
    return Build(request.node, kernel, _lkm_trial.session)


@pytest.fixture
def vm(request: pytest.FixtureRequest, kernel: Kernel, _lkm_trial: Trial) -> VM:
    """A fresh lkm.VM, restored for this test."""
    machine = _lkm_trial.machine(kernel, _lkm_trial.settings)
    following: Any = request.node.stash.get(NEXT, None)
    if following and "vm" in getattr(following, "fixturenames", ()):
        callspec = getattr(following, "callspec", None)
        name = callspec.params.get("_lkm_kernel") if callspec else None
        _lkm_trial.session.restore_ahead(name, settings_of(following))
    return machine


@pytest.fixture
def insmod(vm: VM, build: Build, _lkm_trial: Trial) -> Insmod:
    """insmod(NAME=None, /, **params) -> lkm.Module: loads it on `vm`, until the end of the test."""
    return Insmod(vm, build, _lkm_trial)


@pytest.fixture
def vm_factory(kernel: Kernel, _lkm_trial: Trial) -> Callable[..., VM]:
    """vm_factory(packages=, memory=, modules=, timeout=) -> lkm.VM: one more machine."""

    def make(**options: Any) -> VM:
        chosen = checked("vm_factory", options, _OPTIONS)
        return _lkm_trial.machine(kernel, replace(_lkm_trial.settings, **chosen))

    return make


class Build:
    """Builds a module source for the test's kernel, once in a session."""

    def __init__(self, item: pytest.Item, kernel: Kernel, session: Session) -> None:
        self._item = item
        self._kernel = kernel
        self._session = session

    def __call__(self, path: str | Path | None = None) -> Objects:
        """The modules of the source at `path`, relative to the test's file; None is the one beside it.

        A source that says that it is not for this kernel skips the test. Raises UsageError where there is no
        module source, BuildError, HostError.
        """
        source = source_beside(self._item) if path is None else self._item.path.parent / path
        try:
            return self._session.build(source, self._kernel)
        except ExcludedError as error:
            raise _Skipped(error.summary, _use_item_location=True) from error


class Insmod:
    """Loads modules on the test's machine."""

    def __init__(self, vm: VM, build: Build, trial: Trial) -> None:
        self._vm = vm
        self._build = build
        self._trial = trial

    def __call__(self, module: str | Path | ModuleObject | None = None, /, **params: Any) -> Module:
        """Load the only module of the source beside the test, one by its name, a source, or an object.

        Raises what `build` and `VM.insmod` do.
        """
        chosen, load = self._chosen(module, params)
        self._trial.loads.append(load)
        loaded = self._vm.insmod(chosen, **params)
        self._trial.loaded.append((self._vm, loaded))
        return loaded

    def _chosen(
        self, module: str | Path | ModuleObject | None, params: dict[str, Any]
    ) -> tuple[ModuleObject, Load | None]:
        from lkm.api.objects import ModuleObject

        if isinstance(module, ModuleObject):
            return module, None
        path = module if module and _is_path(module) else None
        objects = self._build(path)
        found = _only(objects) if module is None or path else _named(objects, str(module))
        return found, Load(objects.path, found.name, len(objects) == 1, params)


def source_beside(item: pytest.Item) -> Path:
    """The module source of a test: the nearest at or above its file, up to rootdir. Raises UsageError."""
    for directory in upwards(item):
        if any(_makes_modules(directory / name) for name in ("Kbuild", "Makefile")):
            return directory
        sources = list(directory.glob("*.c"))
        if len(sources) == 1:
            return sources[0]
    start = item.path.parent
    raise UsageError(
        f"no module source at or above {start}: no Kbuild or Makefile with obj-m, nor a single .c file",
        evidence=[f"looked up to {item.config.rootpath}"],
        hint=f"echo 'obj-m := NAME.o' > {start}/Kbuild, or name the source: build(\"PATH\")",
    )


def _makes_modules(path: Path) -> bool:
    try:
        return bool(re.search(r"^\s*obj-(?:m\b|\$)", path.read_text(errors="replace"), re.M))
    except OSError:
        return False


def _is_path(module: str | Path) -> bool:
    return isinstance(module, Path) or "/" in module or module.endswith((".c", ".ko"))


def _only(objects: Objects) -> ModuleObject:
    if len(objects) == 1:
        return next(iter(objects.values()))
    names = ", ".join(objects)
    raise UsageError(
        f"{objects.path} has {len(objects)} modules: {names}",
        hint=f'insmod("{next(iter(objects), "NAME")}")',
    )


def _named(objects: Objects, name: str) -> ModuleObject:
    if name in objects:
        return objects[name]
    close = difflib.get_close_matches(name, objects, 1) or list(objects)
    raise UsageError(
        f"{objects.path} has no module {name!r}",
        evidence=[f"it has {', '.join(objects)}"],
        hint=f'insmod("{close[0]}")',
    )
