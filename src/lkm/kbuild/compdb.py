"""Kbuild's .cmd files: which command made an object, and which headers it read (fixdep's format).

scripts/basic/fixdep.c writes `savedcmd_TARGET := ...` (`cmd_TARGET` before Linux 6.2),
`source_TARGET := FILE` and `deps_TARGET := \\` followed by one path a line. Since Linux 6.13 an external
module is compiled from its own directory with relative names; before, from the kernel's build tree.
"""

# ruff: noqa: PTH118 - paths of the sandbox are text
from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Command", "entries", "read"]


@dataclass(frozen=True)
class Command:
    """One compilation: paths are the sandbox's, relative ones start from `directory`."""

    target: str
    directory: str
    source: str
    arguments: tuple[str, ...]
    dependencies: tuple[str, ...]

    def absolute(self, path: str) -> str:
        """`path` as an absolute, normalized path in the sandbox."""
        return os.path.normpath(os.path.join(self.directory, path))


_HEAD = re.compile(r"(?:saved)?cmd_(?P<target>\S+) := +(?P<command>.*)")
_SOURCE = re.compile(r"^source_\S+ := (.*)$", re.MULTILINE)


def read(text: str, *, module_dir: str, build_dir: str) -> Command | None:
    """The compilation that a .cmd file tells of; None where it is of another kind (ar, ld, modpost)."""
    head = _HEAD.match(text)
    source = _SOURCE.search(text)
    if not head or not source:
        return None
    # The first command alone: objtool follows after a semicolon (Linux 5.17 and later).
    command = head["command"].replace("$(pound)", "#").replace("$$", "$").split(" ; ")[0]
    return Command(
        target=head["target"],
        directory=build_dir if head["target"].startswith("/") else module_dir,
        source=source[1],
        arguments=tuple(shlex.split(command)),
        dependencies=tuple(_dependencies(text)),
    )


def _dependencies(text: str) -> Iterable[str]:
    _, _, block = text.partition("\ndeps_")
    for line in block.splitlines()[1:]:
        path = line.removesuffix(" \\").strip()
        if not path:
            return
        if not path.startswith("$("):
            yield path


_PATH_ARGUMENT = re.compile(r"(|-[A-Za-z]|-Wp,-MM?D,|--?[A-Za-z][\w-]*=)(/.*)", re.DOTALL)


def entries(
    commands: Iterable[Command], locate: Callable[[str], str]
) -> list[dict[str, str | list[str]]]:
    """compile_commands.json for these compilations, with every path passed through `locate`."""
    return [
        {
            "directory": locate(command.directory),
            "file": locate(command.absolute(command.source)),
            "output": locate(command.absolute(command.target)),
            "arguments": [_located(argument, locate) for argument in command.arguments],
        }
        for command in sorted(commands, key=lambda command: command.target)
    ]


def _located(argument: str, locate: Callable[[str], str]) -> str:
    match = _PATH_ARGUMENT.fullmatch(argument)
    return match[1] + locate(match[2]) if match else argument
