"""What a test asks for, by the command line, its markers, lkm.toml and pytest's configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lkm.errors import UsageError
from lkm.project import table

__all__ = ["DEAD", "IN_FILES", "MARKER", "Settings", "checked", "settings_of", "upwards"]

MARKER = "lkm"
DEAD = "dead"
"""What `expect` calls a machine that hung or halted."""


@dataclass(frozen=True)
class Settings:
    """What a test asks for. `kernel` has a name for each kernel that it runs on, and none for the default.

    `memory` is in MiB, `timeout` in seconds, `settle` in seconds of the guest's time; None is lkm's own.
    `expect` has the problems that are wanted.
    """

    kernel: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    memory: int | None = None
    modules: tuple[str, ...] = ()
    timeout: float | None = None
    settle: float | None = None
    expect: tuple[str, ...] = ()


def settings_of(item: pytest.Item) -> Settings:
    """A test's settings. Raises UsageError, which names the place, for what makes no sense."""
    if (known := item.stash.get(_SETTINGS, None)) is not None:
        return known
    chosen: dict[str, Any] = {}
    for place, values, keys in _places(item):
        chosen |= checked(place, values, keys)
    item.stash[_SETTINGS] = settings = replace(Settings(), **chosen)
    return settings


def checked(place: str, values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The values of `place` as Settings has them. Raises UsageError for what is neither."""
    return {key: _parsed(place, key, value, keys) for key, value in values.items()}


def upwards(item: pytest.Item) -> Iterator[Path]:
    """The directory of a test's file and those above it, up to pytest's rootdir."""
    start, top = item.path.parent, item.config.rootpath
    yield start
    if top in start.parents:
        for directory in start.parents:
            yield directory
            if directory == top:
                return


_SETTINGS = pytest.StashKey[Settings]()


def _names(value: Any) -> tuple[str, ...]:
    words = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("a name or a list of names")
    return tuple(word for word in words if word)


def _memory(value: Any) -> int:
    found = re.fullmatch(r"(\d+)\s*([MG]?)(?:i?B)?", str(value).strip())
    if isinstance(value, bool) or not found or not int(found[1]):
        raise ValueError('MiB, or "256M", or "1G"')
    return int(found[1]) * (1024 if found[2] == "G" else 1)


def _timeout(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds < float("inf"):
        raise ValueError("seconds, more than 0")
    return seconds


def _settle(value: Any) -> float:
    if not isinstance(value, bool) and str(value).strip() in ("0", "0.0"):
        return 0.0
    return _timeout(value)


def _expect(value: Any) -> tuple[str, ...]:
    from lkm.problems import ProblemKind

    known = {kind.lower(): str(kind) for kind in (*ProblemKind, DEAD)}
    words = _names(value)
    for word in words:
        if word.lower() not in known:
            raise ValueError(f"of {', '.join(known.values())}{_meant(word, known)}")
    return tuple(known[word.lower()] for word in words)


_KEYS: dict[str, Callable[[Any], Any]] = {
    "kernel": _names,
    "packages": _names,
    "memory": _memory,
    "modules": _names,
    "timeout": _timeout,
    "settle": _settle,
    "expect": _expect,
}
IN_FILES = ("kernel", "timeout", "memory", "packages", "settle")
"""The keys of lkm.toml; pytest's configuration has the same with `lkm_` before them."""


def _places(item: pytest.Item) -> Iterator[tuple[str, dict[str, Any], Iterable[str]]]:
    """Each place with its values and the keys that it may have, those that win last."""
    config = item.config
    for key in IN_FILES:
        if value := config.getini(f"lkm_{key}"):
            yield f"lkm_{key} in {config.inipath or 'the command line'}", {key: value}, IN_FILES
    for directory in upwards(item):
        if (path := directory / "lkm.toml").is_file():
            yield str(path), table(path, "pytest"), IN_FILES
            break
    for marker in reversed(list(item.iter_markers(MARKER))):
        if marker.args:
            raise UsageError(
                f"@pytest.mark.lkm of {item.name} takes keywords, not {marker.args[0]!r}",
                hint=f"@pytest.mark.lkm(kernel={marker.args[0]!r})",
            )
        yield f"@pytest.mark.lkm of {item.name}", dict(marker.kwargs), _KEYS
    if (given := config.getoption("lkm_kernel")) is not None:
        yield "--lkm-kernel", {"kernel": given}, _KEYS


def _parsed(place: str, key: str, value: Any, keys: Iterable[str]) -> Any:
    if key not in keys:
        raise UsageError(
            f"{place}: unknown key {key!r}{_meant(key, keys)}",
            hint=f"the keys are {', '.join(keys)}",
        )
    try:
        return _KEYS[key](value)
    except ValueError as error:
        raise UsageError(f"{place}: {key} is {value!r}", hint=f"{key} is {error}") from error


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
