"""lkm.toml beside a module source: what its build and its tests ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lkm.errors import UsageError
from lkm.source import ModuleSource

__all__ = ["FILE", "build_packages", "table"]

FILE = "lkm.toml"
_TABLES = ("build", "pytest")
_BUILD_KEYS = ("packages",)
_ALTERNATIVE = r"[a-z0-9][a-z0-9+.-]+"
"""A package's name: Debian Policy 5.6.1."""


def table(path: Path, name: str) -> dict[str, Any]:
    """The table `name`, `build` or `pytest`, of a lkm.toml; empty where it has none.

    Raises UsageError, which names the file, for TOML that does not parse and for a table that nobody reads.
    """
    import tomllib

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    extra = [key for key in tables if key not in _TABLES]
    found = tables.get(name, {})
    if extra or not isinstance(found, dict):
        raise UsageError(
            f"{path} has the tables {' and '.join(_TABLES)}, and not"
            f" {', '.join(extra) or f'a value called {name}'}",
            hint='[pytest] and below it kernel = "6.1", for example',
        )
    return found


def build_packages(source: ModuleSource) -> tuple[str, ...]:
    """The Debian packages that a build of `source` needs beside lkm's own: `packages` of `[build]`.

    Each is a name, or several that serve alike, `pkgconf | pkg-config`. Only a directory has them. Raises
    UsageError for what is neither.
    """
    path = source.directory / FILE
    if source.file or not path.is_file():
        return ()
    values = table(path, "build")
    for key in values:
        if key not in _BUILD_KEYS:
            raise UsageError(
                f"{path}: unknown key {key!r} in [build]", hint=f"the key is {_BUILD_KEYS[0]}"
            )
    names = values.get("packages", [])
    pattern = rf"{_ALTERNATIVE}( \| {_ALTERNATIVE})*"
    if not isinstance(names, list) or not all(
        isinstance(each, str) and re.fullmatch(pattern, each) for each in names
    ):
        raise UsageError(
            f"{path}: packages is {names!r}, not a list of packages' names",
            hint='packages = ["libxtables-dev", "pkgconf | pkg-config"]',
        )
    return tuple(names)
