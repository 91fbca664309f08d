"""Kernel configurations: what a .config says, what a fragment asks for, and what was silently dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lkm.kernels.catalog import series_of, version_key

__all__ = ["Dropped", "dropped", "fragment_for", "options", "options_in"]


@dataclass(frozen=True)
class Dropped:
    """An option that was asked for, and what the kernel's own Kconfig made of it.

    `got` is None where it is not in the .config at all: its dependencies are not met, or it is unknown there.
    """

    name: str
    asked: str
    got: str | None

    def __str__(self) -> str:
        missing = "dropped: its dependencies are not met, or this kernel has no such option"
        return f"CONFIG_{self.name}={self.asked}: {missing if self.got is None else f'it is {self.got}'}"


def options(path: Path) -> dict[str, str]:
    """The options of a .config or auto.conf by their names without CONFIG_; those that are set."""
    return options_in(path.read_text(errors="replace"))


def options_in(text: str) -> dict[str, str]:
    """The options that are set in the text of a .config, by their names without CONFIG_.

    Strings are without their quotes and escapes, which auto.conf has not any more since Linux 5.19.
    """
    found = re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE)
    return {name: value.translate(_QUOTING) for name, value in found}


_QUOTING = {ord('"'): None, ord("\\"): None}
_SERIES = re.compile(r"(?P<line>.*?)\s+# (?P<when>since|before) (?P<series>\d+\.\d+)")


def fragment_for(release: str, text: str) -> str:
    """The part of a fragment that is meant for the series of `release`.

    A line may end in `# since 6.6` or `# before 6.6`: elsewhere it is left out, and here it is without that.
    """
    return "".join(f"{line}\n" for line in _meant_for(release, text))


def _meant_for(release: str, text: str) -> Iterator[str]:
    here = version_key(series_of(release))
    for line in text.splitlines():
        found = _SERIES.fullmatch(line)
        if found is None:
            yield line
        elif (here >= version_key(found["series"])) == (found["when"] == "since"):
            yield found["line"]


_OFF = re.compile(r"^# CONFIG_(\w+) is not set$", re.MULTILINE)


def dropped(asked: str, final: str) -> tuple[Dropped, ...]:
    """What of the fragment `asked` is not so in the .config `final`, in the fragment's order.

    Kconfig drops an option whose dependencies are not met without a word. One that is to be off may be unknown.
    """
    wanted: Mapping[str, str] = {**options_in(asked), **dict.fromkeys(_OFF.findall(asked), "n")}
    there = {**dict.fromkeys(_OFF.findall(final), "n"), **options_in(final)}
    return tuple(
        Dropped(name, value, there.get(name))
        for name, value in wanted.items()
        if there.get(name, "n" if value == "n" else None) != value
    )
