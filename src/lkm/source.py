"""A module source: a directory that Kbuild or dkms understands, or one .c file; and what is read of it."""

# ruff: noqa: PTH113, PTH116, PTH118, PTH120, PTH208 - every build walks the source, and path objects are most of the time then
from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lkm.errors import UsageError

__all__ = [
    "DKMS_CONF",
    "KBUILD_FILES",
    "MARKER",
    "ModuleSource",
    "SourceFile",
    "files",
    "find",
    "is_ours",
]

KBUILD_FILES = ("Kbuild", "Makefile")
"""What Kbuild looks for in a source directory, in its order (scripts/Makefile.build)."""

DKMS_CONF = "dkms.conf"
"""What makes a directory one that is built as dkms(8) builds it."""

MARKER = "# made by lkm; `lkm clean` removes this directory"
"""First line of the .gitignore that says a `build` directory is lkm's own."""

MAX_BYTES = 512 << 20
MAX_FILES = 20_000


@dataclass(frozen=True)
class ModuleSource:
    """Where a module's source is: `directory` is absolute and free of symlinks.

    `file` is the one .c file, inside `directory`, where the source is a single file.
    """

    directory: Path
    file: Path | None = None

    @property
    def name(self) -> str:
        """What messages call it: the file's stem, or the directory's name."""
        return self.file.stem if self.file else self.directory.name or "/"

    @property
    def path(self) -> Path:
        """The file or directory that the user named."""
        return self.file or self.directory

    @property
    def kbuild(self) -> str | None:
        """The Kbuild file that a single .c file needs; None for a directory, which has its own."""
        return f"obj-m := {self.file.stem}.o\n" if self.file else None

    @property
    def is_dkms(self) -> bool:
        """Whether it is built as its dkms.conf says, and not by `make -C KDIR M=DIR`."""
        return self.file is None and (self.directory / DKMS_CONF).is_file()

    @property
    def worktree(self) -> Path | None:
        """The git work tree that encloses the directory: builds may read it (`-I$(src)/../include`).

        None where there is none, or where it is the home directory or the root.
        """
        for parent in self.directory.parents:
            if (parent / ".git").exists():
                return None if parent in (Path.home(), Path("/")) else parent
        return None


@dataclass(frozen=True)
class SourceFile:
    """A file that takes part in a build: `name` is relative to the source directory."""

    name: str
    path: str
    mode: int
    size: int


def find(path: str | Path) -> ModuleSource:
    """The module source at `path`: a directory with a Kbuild file, Makefile or dkms.conf, or one .c file.

    Nothing is read but the directory's listing. Raises UsageError where there is no module source.
    """
    given = Path(path)
    try:
        status = given.stat()
    except OSError as error:
        raise UsageError(
            f"no module source at {path}: {error.strerror}",
            hint="lkm build DIR, where DIR holds a Kbuild or a Makefile, or lkm build FILE.c",
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return _directory(given)
    if not stat.S_ISREG(status.st_mode) or given.suffix != ".c":
        raise _not_a_source(given)
    return _single(given)


def _directory(given: Path) -> ModuleSource:
    try:
        names = sorted(os.listdir(given))
    except PermissionError as error:
        raise UsageError(
            f"cannot read {given}: {error.strerror}", hint=f"ls -ld {given}"
        ) from error
    if any((given / name).is_file() for name in (*KBUILD_FILES, DKMS_CONF)):
        return ModuleSource(given.resolve())
    stems = [name[:-2] for name in names if name.endswith(".c")]
    stem = stems[0] if stems else "NAME"
    single = f", or lkm build {given / stem}.c" if stems else ""
    raise UsageError(
        f"no module in {given}: it has no Kbuild file, no Makefile and no {DKMS_CONF}",
        evidence=[f"it has {stem}.c" for stem in stems[:5]],
        hint=f"echo 'obj-m := {stem}.o' > {given}/Kbuild{single}",
    )


def _single(given: Path) -> ModuleSource:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", given.stem):
        raise UsageError(
            f"{given.name} cannot be a module's name: a module is named by letters, digits, _ and -",
            hint=f"mv '{given}' '{given.parent / re.sub('[^A-Za-z0-9_-]', '_', given.stem)}.c'",
        )
    directory = given.parent.resolve()
    return ModuleSource(directory, directory / given.name)


def _not_a_source(given: Path) -> UsageError:
    if given.suffix == ".ko":
        return UsageError(f"{given} is built already", hint=f"lkm run {given}")
    if given.name in KBUILD_FILES:
        return UsageError(f"{given} is not a module source", hint=f"lkm build {given.parent}")
    return UsageError(
        f"{given} is not a module source: that is a directory or a .c file",
        hint=f"lkm build {given.parent}",
    )


def is_ours(build: Path) -> bool:
    """Whether `build` is a directory of artifacts that lkm made: its .gitignore says so."""
    try:
        with open(build / ".gitignore", encoding="utf-8", errors="replace") as file:
            return not build.is_symlink() and file.readline().rstrip("\n") == MARKER
    except OSError:
        return False


def files(source: ModuleSource) -> tuple[SourceFile, ...]:
    """The files of a source that its build can see, sorted by name; symlinks are followed.

    Left out are dot-directories, directories of lkm's artifacts, pytest's test files, and what Kbuild
    itself writes. An object without a source is a binary that the author ships, and stays. Raises
    UsageError for a source of more than 512 MiB or 20,000 files, FileNotFoundError where it is gone.
    """
    if source.file:
        return tuple(_closure(source.directory, source.file))
    found: list[SourceFile] = []
    total = 0
    for file in _walk(str(source.directory), "", ()):
        found.append(file)
        total += file.size
        if total > MAX_BYTES or len(found) > MAX_FILES:
            raise _too_large(source, found)
    return tuple(sorted(found, key=lambda file: file.name))


def _too_large(source: ModuleSource, found: list[SourceFile]) -> UsageError:
    largest = sorted(found, key=lambda file: -file.size)[:3]
    return UsageError(
        f"{source.directory} is not a module source: it has more than {MAX_FILES} files or"
        f" {MAX_BYTES >> 20} MiB",
        evidence=[f"{file.size >> 20} MiB {file.name}" for file in largest],
        hint="lkm build DIR, where DIR holds the module alone",
    )


def _walk(top: str, prefix: str, parents: tuple[tuple[int, int], ...]) -> Iterator[SourceFile]:
    status = os.stat(top)
    identity = (status.st_dev, status.st_ino)
    if identity in parents:  # a symlink to a directory above itself
        return
    with os.scandir(top) as listing:
        entries = {entry.name: entry for entry in listing}
    for name, entry in entries.items():
        try:
            status = entry.stat()
        except OSError:  # a broken symlink, or gone meanwhile
            continue
        if stat.S_ISDIR(status.st_mode):
            if not name.startswith(_NO_SOURCE_DIRECTORIES) and not is_ours(Path(entry.path)):
                yield from _walk(entry.path, f"{prefix}{name}/", (*parents, identity))
        elif stat.S_ISREG(status.st_mode) and not _is_left_out(top, prefix, name, entries):
            yield SourceFile(prefix + name, entry.path, status.st_mode & 0o777, status.st_size)


_OUTPUT_SUFFIXES = (".ko", ".mod", ".mod.c", ".mod.o", ".o.tmp", ".o.d")
_OUTPUT_NAMES = {"modules.order", "built-in.a", ".module-common.o"}
_TEST_FILE = re.compile(r"(test_.*|.*_test|conftest)\.py")
_NO_SOURCE_DIRECTORIES = (".", "__pycache__")
_SOURCE_SUFFIXES = (".c", ".S", ".s", ".rs")


def _is_left_out(top: str, prefix: str, name: str, siblings: dict[str, os.DirEntry[str]]) -> bool:
    if name.endswith(_OUTPUT_SUFFIXES) or name in _OUTPUT_NAMES or _TEST_FILE.fullmatch(name):
        return True
    if name == "Module.symvers":
        return not prefix
    if name.startswith(".") and name.endswith(".cmd"):
        return _is_command_file(f"{top}/{name}")
    if name.endswith(".o"):
        stem = name[:-2]
        return any(stem + suffix in siblings for suffix in _SOURCE_SUFFIXES) or (
            f".{name}.cmd" in siblings and _is_command_file(f"{top}/.{name}.cmd")
        )
    return False


def _is_command_file(path: str) -> bool:
    """Whether Kbuild wrote it; authors of shipped objects add an empty one to please modpost."""
    try:
        with open(path, "rb") as file:
            return file.read(9).startswith((b"cmd_", b"savedcmd_"))
    except OSError:
        return False


_QUOTED_INCLUDE = rb'(?m)^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"'


def _closure(directory: Path, first: Path) -> Iterator[SourceFile]:
    """The file and what it includes by `#include "..."` from its own directory and below."""
    waiting, seen = [str(first)], {str(first)}
    while waiting:
        path = waiting.pop()
        with open(path, "rb") as file:
            text = file.read()
            status = os.fstat(file.fileno())
        name = os.path.relpath(path, directory)
        yield SourceFile(name, path, status.st_mode & 0o777, status.st_size)
        for raw in re.findall(_QUOTED_INCLUDE, text):
            target = os.path.normpath(os.path.join(os.path.dirname(path), os.fsdecode(raw)))
            inside = target.startswith(f"{str(directory).rstrip('/')}/")
            if inside and target not in seen and os.path.isfile(target):
                seen.add(target)
                waiting.append(target)
