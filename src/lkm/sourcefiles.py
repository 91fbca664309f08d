"""The files that a compiler read, where they are now, and a few lines of them to show."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.problems import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkm.kernels.kernel import Kernel
    from lkm.targets import Target, Targets

__all__ = ["SourceFiles", "SourceFilesOfSeveral"]

_SUFFIXES = {".c", ".h", ".S", ".s", ".inc", ".rs"}
_LARGEST = 4 << 20
_WIDEST = 240
_AROUND = 2
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SourceFiles:
    """The sources of a path's modules and the kernel's headers. Nothing outside of these is opened.

    The paths in debug info are only words, and a module may be a stranger's: what they lead to is shown
    if it is, symbolic links followed, in the source directory, its git work tree, or the headers. For a `.ko`
    that is the directory of the file, or the one above `build/RELEASE`.
    """

    def __init__(self, targets: Targets, kernel: Kernel) -> None:
        build = targets.build
        self._own: list[tuple[str, Path]] = []
        if build:
            self._own.append((build.compiled_at, build.source.directory))
            if tree := build.source.worktree:
                self._own.append((str(tree), tree))
            self._since = build.read_at
        else:
            self._own = [(str(home), home) for home in map(_home, targets.named)]
            self._since = min((_mtime(each.path) for each in targets.named), default=0.0)
        self._headers = [(inside, host) for host, inside in kernel.binds]

    def path(self, compiled: str) -> str:
        """The file's path on this computer; the same where it has none."""
        for inside, host in (*self._own, *self._headers):
            if _below(compiled, inside):
                return str(host) + compiled[len(inside) :]
        return compiled

    def is_own(self, compiled: str) -> bool:
        """Whether the file is the user's, and not a header of the kernel's."""
        return self.has(compiled) or not any(_below(compiled, each) for each, _ in self._headers)

    def has(self, compiled: str) -> bool:
        """Whether the file is in the directories of these sources."""
        return any(_below(compiled, inside) for inside, _ in self._own)

    def excerpt(self, compiled: str, line: int) -> Source | None:
        """The lines around one; None where the file is not there or may not be shown."""
        path = self.path(compiled)
        read = self._read(path)
        if read is None:
            return None
        text, changed = read
        lines = text.split("\n")
        if not 1 <= line <= len(lines):
            return None
        first = max(1, line - _AROUND)
        shown = lines[first - 1 : line + _AROUND]
        if line + _AROUND >= len(lines) and not shown[-1]:
            shown.pop()  # what follows the last newline is no line
        return Source(path, line, first, tuple(map(_printable, shown)), changed)

    def _read(self, path: str) -> tuple[str, bool] | None:
        """A file's text, and whether it was written to since it was compiled."""
        try:
            if Path(path).suffix not in _SUFFIXES or not self._is_shown(path):
                return None
            # Without O_NONBLOCK a FIFO would wait for a writer.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                    return None
                text = file.read(_LARGEST).decode("utf-8", "backslashreplace")
                return text, status.st_mtime > self._since
        except (OSError, ValueError):
            return None

    def _is_shown(self, path: str) -> bool:
        real = os.path.realpath(path)
        roots = (os.path.realpath(host) for _, host in (*self._own, *self._headers))
        return any(_below(real, root) for root in roots)


class SourceFilesOfSeveral:
    """The sources of several paths: the first that has a file says where it is. There is one at least."""

    def __init__(self, files: Sequence[SourceFiles]) -> None:
        self._files = files

    def path(self, compiled: str) -> str:
        """The file's path on this computer; the same where it has none."""
        return self._of(compiled).path(compiled)

    def is_own(self, compiled: str) -> bool:
        """Whether the file is the user's, and not a header of the kernel's."""
        return self._of(compiled).is_own(compiled)

    def excerpt(self, compiled: str, line: int) -> Source | None:
        """The lines around one; None where the file is not there or may not be shown."""
        return self._of(compiled).excerpt(compiled, line)

    def _of(self, compiled: str) -> SourceFiles:
        return next((each for each in self._files if each.has(compiled)), self._files[0])


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _home(target: Target) -> Path:
    """Where the source of a .ko is looked for: beside it, or where `lkm build` was given it."""
    directory = target.path.absolute().parent
    return directory.parent.parent if directory.parent.name == "build" else directory


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _printable(line: str) -> str:
    text = _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", line.rstrip("\r"))
    return text if len(text) <= _WIDEST else text[:_WIDEST] + "..."
