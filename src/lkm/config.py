"""The user's settings, read from lkm.toml; the environment overrides each of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lkm import paths
from lkm.errors import UsageError

__all__ = ["Config", "load"]

_VARIABLES = {
    "mirror": "LKM_DEBIAN_MIRROR",
    "kernel": "LKM_KERNEL",
    "build_timeout": "LKM_BUILD_TIMEOUT",
}


@dataclass(frozen=True)
class Config:
    """What the user chose; None is lkm's own choice.

    `mirror` is the URL of a Debian mirror (`$LKM_DEBIAN_MIRROR`), `kernel` the name of the kernel that
    is used where none is given (`$LKM_KERNEL`), `build_timeout` the seconds that a build may take
    (`$LKM_BUILD_TIMEOUT`).
    """

    mirror: str | None = None
    kernel: str | None = None
    build_timeout: float | None = None


def load(path: Path | None = None) -> Config:
    """The settings in `path` (`paths.config_file()` for None), overridden by the environment.

    A file that does not exist is an empty one. Raises UsageError, naming the file, for TOML that does
    not parse, an unknown key and a value that makes no sense.
    """
    values = _read(path or paths.config_file())
    for key, variable in _VARIABLES.items():
        if given := os.environ.get(variable):
            values[key] = given
    seconds = values.pop("build_timeout", None)
    return Config(**values, build_timeout=None if seconds is None else _seconds(seconds))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds < float("inf"):
        return seconds
    raise UsageError(
        f"the time that a build may take is {text!r}, not seconds", hint="LKM_BUILD_TIMEOUT=1800"
    )


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return _checked(path, text)


def _checked(path: Path, text: str) -> dict[str, str]:
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML", evidence=[str(error)]) from error
    for key, value in table.items():
        if key not in _VARIABLES:
            known = ", ".join(_VARIABLES)
            raise UsageError(f"{path}: unknown key {key!r}", hint=f"the keys are {known}")
        if not isinstance(value, str):
            raise UsageError(
                f"{path}: {key} is {value!r}, not a string", hint=f'write {key} = "..."'
            )
    return table
