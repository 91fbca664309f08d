"""What a finished make left in the work tree: modules, facts, compile commands, what it read."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from lkm.errors import UsageError
from lkm.kbuild import artifacts, compdb, goals, make
from lkm.kbuild.make import Place
from lkm.kbuild.workdir import WorkDir
from lkm.source import ModuleSource

__all__ = ["collect", "order"]

_IMMUTABLE_PROVIDERS = {"debian"}


def order(place: Place, work: WorkDir) -> dict[str, str]:
    """The .ko files that this run of make stands for (modules.order): path in the work tree, and name.

    Raises UsageError where make succeeded and built no module.
    """
    try:
        lines = _contained(work.tree, "modules.order").read_text("utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    modules = {}
    for line in lines:
        name = os.path.relpath(PurePath(place.inside, line), place.inside)
        path = PurePath(name).with_suffix(".ko")
        modules[str(path)] = path.name
    if not modules:
        raise _no_module(place.source)
    return modules


def _no_module(source: ModuleSource) -> UsageError:
    stems = [
        path.stem for path in sorted(source.directory.glob("*.c")) if not path.stem.endswith(".mod")
    ]
    return UsageError(
        f"no module in {source.directory}: Kbuild built nothing",
        hint=goals.hint(source)
        or f"obj-m := {stems[0] if stems else 'NAME'}.o in {source.directory}/Makefile",
    )


def _contained(tree: Path, name: str) -> Path:
    """A file in the work tree by its name; both may be an untrusted Makefile's: no links, no devices.

    Raises FileNotFoundError where it is missing.
    """
    path = tree / name
    if not path.parent.resolve().is_relative_to(tree.resolve()):
        raise UsageError(f"the build names {name}, which is not in its directory")
    if not stat.S_ISREG(path.lstat().st_mode):
        raise UsageError(f"the build made {name}, but not as a regular file")
    return path


def collect(
    place: Place, work: WorkDir, modules: Mapping[str, str]
) -> tuple[dict[str, Path | bytes], dict[str, Any]]:
    """The files to keep of a build by their names in the store, and their manifest.

    `modules` are the paths of the .ko files in the work tree, and the names to keep them by.
    """
    from lkm import ko

    commands = _commands(place, work)
    compile_commands = compdb.entries(
        (command for command in commands if _is_own(command, place)), place.to_host
    )
    files: dict[str, Path | bytes] = {
        "compile_commands.json": (json.dumps(compile_commands, indent=1) + "\n").encode(),
        "build.log": work.log,
    }
    if not place.source.is_dkms or (work.tree / "Module.symvers").exists():
        files["Module.symvers"] = _contained(work.tree, "Module.symvers")
    records = []
    for name, kept_as in modules.items():
        path = _contained(work.tree, name)
        stripped = f"stripped/{kept_as}"
        files[kept_as] = path
        files[stripped] = _contained(work.tree, f"{make.STRIPPED}/{kept_as}")
        records.append(
            {
                "name": path.stem.replace("-", "_"),
                "file": kept_as,
                "stripped": stripped,
                "facts": ko.read(path).to_dict(),
            }
        )
    manifest = {
        "modules": records,
        "published": [name for name in files if not name.startswith("stripped/")],
        "dependencies": artifacts.stamps(_dependencies(place, commands)),
        "compiled_at": place.inside,
    }
    return files, manifest


def _commands(place: Place, work: WorkDir) -> list[compdb.Command]:
    found = []
    for top, _, names in os.walk(work.tree):
        for name in names:
            if name.startswith(".") and name.endswith(".o.cmd"):
                text = _contained(work.tree, f"{top}/{name}").read_text("utf-8", "replace")
                command = compdb.read(
                    text, module_dir=place.inside, build_dir=place.kernel.build_dir
                )
                if command:
                    found.append(command)
    return found


def _is_own(command: compdb.Command, place: Place) -> bool:
    source = command.absolute(command.source)
    return source.startswith(f"{place.inside}/") and not source.endswith(".mod.c")


def _dependencies(place: Place, commands: Sequence[compdb.Command]) -> Iterator[str]:
    """What the build read besides the source itself, where that may change under the same identity."""
    kernel = place.kernel
    fixed = kernel.provider in _IMMUTABLE_PROVIDERS
    if not fixed:
        yield str(kernel.build_dir_on_host / "Module.symvers")
    worktree = place.source.worktree
    for path in {command.absolute(name) for command in commands for name in command.dependencies}:
        if path.startswith(f"{place.inside}/"):
            continue
        if worktree and path.startswith(f"{worktree}/"):
            yield path
        elif not fixed:
            yield place.to_host(path)
