"""lkm.toml beside a module source: what its build and its tests ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lkm.errors import UsageError
from lkm.source import ModuleSource

__all__ = ["FILE", "Packages", "build_packages", "table"]

FILE = "lkm.toml"
_TABLES = ("build", "pytest")
_NAME = r"[a-z0-9][a-z0-9+.-]+"
"""A package's: Debian Policy 5.6.1."""


@dataclass(frozen=True)
class Packages:
    """Debian packages for a build: `packages` have to be there, `optional` are where the suite has them.

    Each is a name, or several that serve alike, `pkgconf | pkg-config`.
    """

    packages: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


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


def build_packages(source: ModuleSource) -> Packages:
    """The Debian packages that a build of `source` needs beside lkm's own: table `[build]` of its lkm.toml.

    Only a directory has them. Raises UsageError for what is no list of names.
    """
    path = source.directory / FILE
    if source.file or not path.is_file():
        return Packages()
    values = table(path, "build")
    keys = [field.name for field in fields(Packages)]
    for key in values:
        if key not in keys:
            raise UsageError(
                f"{path}: unknown key {key!r} in [build]", hint=f"the keys are {' and '.join(keys)}"
            )
    return Packages(**{key: _names(path, key, value) for key, value in values.items()})


def _names(path: Path, key: str, value: Any) -> tuple[str, ...]:
    pattern = rf"{_NAME}( \| {_NAME})*"
    if isinstance(value, list) and all(
        isinstance(each, str) and re.fullmatch(pattern, each) for each in value
    ):
        return tuple(value)
    raise UsageError(
        f"{path}: {key} is {value!r}, not a list of packages' names",
        hint=f'{key} = ["libxtables-dev", "pkgconf | pkg-config"]',
    )
