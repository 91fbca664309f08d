"""A kernel's own modules: which files to load, in which order, before a module that needs them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from lkm.errors import UsageError
from lkm.kernels.catalog import series_of
from lkm.kernels.kernel import Kernel

__all__ = [
    "Index",
    "answering",
    "find",
    "load_order",
    "matches",
    "module_name",
    "read_index",
    "soft_needs",
]


@dataclass(frozen=True)
class Index:
    """modules.dep and modules.builtin (depmod(8)): `files` and `depends` by module name.

    Names have `_` only. `depends` holds what must be loaded before, first things first.
    """

    files: dict[str, Path]
    depends: dict[str, tuple[str, ...]]
    builtin: frozenset[str]


def module_name(path: str) -> str:
    """The name that the kernel knows a module by: `virtio_net` for kernel/drivers/net/virtio-net.ko.xz."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def read_index(kernel: Kernel) -> Index:
    """What the kernel has as files, and what is built into it; empty for a tree without either list."""
    directory = kernel.modules_dir or kernel.build_dir_on_host
    files: dict[str, Path] = {}
    depends: dict[str, tuple[str, ...]] = {}
    for line in _lines(directory / "modules.dep"):
        path, _, needs = line.partition(":")
        name = module_name(path)
        files[name] = directory / path
        # depmod writes the nearest need first, modprobe loads from the right: depmod(8), modules.dep(5).
        depends[name] = tuple(module_name(need) for need in reversed(needs.split()))
    builtin = frozenset(module_name(line) for line in _lines(directory / "modules.builtin"))
    return Index(files, depends, builtin)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def load_order(kernel: Kernel, names: Iterable[str]) -> tuple[Path, ...]:
    """The files to load, in order and each once, so that all of `names` are in the kernel.

    Dependencies come first; what is built in is left out; `-` and `_` are equal. Raises UsageError for a
    module that the kernel does not have.
    """
    index = read_index(kernel)
    order: dict[str, Path] = {}
    for given in names:
        name = given.replace("-", "_")
        if name in index.builtin:
            continue
        if name not in index.files:
            raise _lacks(kernel, given, index)
        for needed in (*index.depends[name], name):
            if needed not in index.builtin:
                order[needed] = index.files[needed]
    return tuple(order.values())


def soft_needs(kernel: Kernel, order: Iterable[Path]) -> tuple[Path, ...]:
    """What modprobe tries to load before the modules of `order`, and may be refused (softdep of modprobe.d(5)).

    libcrc32c's init asks the crypto layer for "crc32c" and is refused where no module is there that has it. A
    name may be an alias that several modules have: then the generic one, which needs no device, is chosen.
    """
    names = {module_name(path.name) for path in order}
    directory = kernel.modules_dir or kernel.build_dir_on_host
    wanted: list[str] = []
    for line in _lines(directory / "modules.softdep"):
        words = line.split()
        if words[:1] == ["softdep"] and words[1].replace("-", "_") in names and "pre:" in words:
            before = words[words.index("pre:") + 1 :]
            wanted += before[: before.index("post:")] if "post:" in before else before
    if not wanted:
        return ()
    index, aliases = read_index(kernel), cache(partial(_aliases, directory))
    found = [name for each in wanted if (name := _resolved(each, index, aliases))]
    return load_order(kernel, found)


def answering(kernel: Kernel, names: Iterable[str]) -> dict[str, str]:
    """The kernel's own module that modprobe takes for each name or alias, chosen as for `soft_needs`.

    Names that no file has are left out.
    """
    index = read_index(kernel)
    aliases = cache(partial(_aliases, kernel.modules_dir or kernel.build_dir_on_host))
    found = {name: _resolved(name, index, aliases) for name in names}
    return {name: module for name, module in found.items() if module in index.files}


def matches(alias: str, name: str) -> bool:
    """Whether modprobe takes `name` for what `alias` says: a glob in which `-` and `_` are equal."""
    alias, name = alias.replace("-", "_"), name.replace("-", "_")
    special = _SPECIAL.search(alias)
    if not special:
        return alias == name
    # fnmatch compiles a pattern, and a kernel has 20,000 of devices.
    return name.startswith(alias[: special.start()]) and fnmatch.fnmatchcase(name, alias)


_SPECIAL = re.compile(r"[*?\[]")


def _aliases(directory: Path) -> list[tuple[str, str]]:
    """Each line of modules.alias (depmod(8)): the alias, and the module that has it."""
    lines = (line.split() for line in _lines(directory / "modules.alias"))
    return [(words[1], words[2]) for words in lines if len(words) == 3]


def _resolved(name: str, index: Index, aliases: Callable[[], list[tuple[str, str]]]) -> str | None:
    plain = name.replace("-", "_")
    if plain in index.files or plain in index.builtin:
        return plain
    named = [module for alias, module in aliases() if matches(alias, name)]
    named.sort(key=lambda each: not each.endswith("_generic"))
    return next((each for each in named if each in index.files), None)


def find(kernel: Kernel, given: str) -> Path:
    """The file of one of the kernel's own modules, by its name or an alias of it.

    Raises UsageError for one that it has not as a file.
    """
    index = read_index(kernel)
    name = given.replace("-", "_")
    if name in index.files:
        return index.files[name]
    if name in index.builtin:
        raise UsageError(
            f"{given} is built into the kernel {kernel.release}, so there is no file to read",
            hint="lkm kernel path shows its modules.builtin.modinfo",
        )
    if meant := answering(kernel, [given]):
        return index.files[meant[given]]
    raise _lacks(kernel, given, index)


def _lacks(kernel: Kernel, name: str, index: Index) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, [*index.files, *index.builtin], n=3)
    return UsageError(
        f"the kernel {kernel.release} has no module {name!r}",
        evidence=[f"nearest: {', '.join(near)}"] if near else [],
        hint=_where_more_are(kernel),
    )


def _where_more_are(kernel: Kernel) -> str | None:
    if kernel.flavour == "cloud":
        return f"the generic flavour has more: --kernel {series_of(kernel.release)}-generic"
    if kernel.provider == "tree" and not kernel.modules_dir:
        tree = kernel.build_dir_on_host
        return f"make -C {tree} modules_install INSTALL_MOD_PATH={tree}"
    return None
