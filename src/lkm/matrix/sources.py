"""A module source as a cell has it: named, known by its content, and able to travel."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lkm import atomic, paths
from lkm import source as sources
from lkm.errors import UsageError
from lkm.source import ModuleSource, SourceFile

__all__ = ["Source", "changed", "is_unchanged", "packed", "place", "sweep", "take"]

_KEPT_DAYS = 14
_GIT_MARK = ".git/lkm"
"""Packed with a source that needs its git work tree, which `ModuleSource.worktree` finds by `.git`."""


@dataclass(frozen=True)
class Source:
    """What a cell builds.

    `path` is the directory, .c or .ko on the computer that made the cell. `root` is the directory that the
    build can see, `path` or its git work tree. `digest` changes when any file of it does. `archive` is that
    directory, packed, for a computer that does not have it; None where it has. `size` is of its files, in
    bytes.
    """

    name: str
    path: Path
    root: Path
    digest: str
    archive: bytes | None = None
    size: int = 0


def take(path: str | Path, *, name: str | None = None, tests: bool = False) -> Source:
    """The source at `path`, a directory, a .c or a .ko, as its content is now.

    With `tests` the files of its test suite are part of it. Raises UsageError where there is none.
    """
    given = Path(path)
    if ".ko" in given.suffixes[-2:]:
        return _taken_object(given, name)
    module = sources.find(given)
    root, files = _files(module, tests=tests)
    return _source(name or module.name, module.path, root, files)


def _source(name: str, path: Path, root: Path, files: Sequence[SourceFile]) -> Source:
    size = sum(file.size for file in files)
    return Source(name, path, root, _digest(root, files), size=size)


def _taken_object(given: Path, name: str | None) -> Source:
    if not given.is_file():
        raise UsageError(f"no such file: {given}", hint="lkm build SOURCE makes one")
    root = given.parent.resolve()
    stem = given.name.partition(".ko")[0]
    return _source(name or stem, root / given.name, root, _objects(root))


def packed(source: Source, *, tests: bool = False) -> Source:
    """The source with its files in it, so that a cell can run on a computer that does not have them.

    Raises UsageError where the files are not what they were when the source was taken.
    """
    files = _all_files(source, tests=tests)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6, dereference=True) as archive:
        for file in files:
            archive.add(file.path, arcname=file.name, filter=_anonymous)
        if source.root != (source.path if source.path.is_dir() else source.path.parent):
            archive.addfile(tarfile.TarInfo(_GIT_MARK))
    if _digest(source.root, files) != source.digest:
        raise changed(source)
    return replace(source, archive=buffer.getvalue())


def changed(source: Source) -> UsageError:
    """The error for a source that is no longer what was taken."""
    return UsageError(
        f"{source.path} changed while the matrix ran", hint="stop what writes there, and try again"
    )


def is_unchanged(source: Source, here: Path, *, tests: bool = False) -> bool:
    """Whether the files at `here`, where the source is on this computer, are still those that were taken."""
    if source.archive is not None:
        return True
    return take(here, tests=tests).digest == source.digest


def place(source: Source) -> Path:
    """Where the source is on this computer, unpacked into the store where it came with its files."""
    if source.archive is None:
        return source.path
    home = _homes() / source.digest
    if not home.is_dir():
        with atomic.exclusive(home, f"the source {source.name}"):
            if not home.is_dir():
                sweep()
                _unpack(source, home)
    os.utime(home)
    with_name = home / source.root.name
    return with_name / source.path.relative_to(source.root)


def _unpack(source: Source, home: Path) -> None:
    assert source.archive is not None
    with atomic.making(home, f"the source {source.name}") as partial:
        inside = partial / source.root.name
        inside.mkdir()
        with tarfile.open(fileobj=io.BytesIO(source.archive), mode="r:gz") as archive:
            for member in archive:
                _write(inside / member.name, archive, member)


def _write(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Only regular files are packed, by names below the source's root; nothing else is taken."""
    content = archive.extractfile(member)
    if content is None or ".." in path.parts:
        raise UsageError(f"the packed source has {member.name}, which is no file of a source")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.read())
    path.chmod(member.mode)


def sweep() -> None:
    """Remove unpacked sources, and what was built from them, that are older than two weeks."""
    from lkm import kbuild

    old = time.time() - _KEPT_DAYS * 86400
    for home in _homes().glob("[0-9a-f]*"):
        if home.stat().st_mtime < old:
            for directory in home.iterdir():
                kbuild.clean(ModuleSource(directory))
            atomic.remove(home)


def _homes() -> Path:
    return paths.cache_dir() / "matrix" / "sources"


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _all_files(source: Source, *, tests: bool) -> Sequence[SourceFile]:
    if ".ko" in source.path.suffixes[-2:]:
        return _objects(source.root)
    return _files(sources.find(source.path), tests=tests)[1]


def _objects(directory: Path) -> list[SourceFile]:
    """The kernel objects of a directory: one may need another."""
    found = sorted(path for path in directory.glob("*.ko*") if path.is_file())
    return [SourceFile(path.name, str(path), 0o644, path.stat().st_size) for path in found]


def _files(module: ModuleSource, *, tests: bool) -> tuple[Path, Sequence[SourceFile]]:
    """The directory that a build of the source can see as far as it needs it, and the files in it."""
    files: Sequence[SourceFile] = sources.files(module)
    worktree = module.worktree
    if worktree and any(_leads_out(file) for file in files):
        own = module.directory.relative_to(worktree).as_posix()
        inside = {f"{own}/{file.name}": file for file in files}
        beside = {file.name: file for file in sources.files(ModuleSource(worktree))}
        named = {name: replace(file, name=name) for name, file in (beside | inside).items()}
        files, root = sorted(named.values(), key=lambda file: file.name), worktree
    else:
        root = module.directory
    if tests:
        known = {file.path for file in files}
        files = [*files, *(file for file in _tests(module, root) if file.path not in known)]
    return root, files


def _leads_out(file: SourceFile) -> bool:
    """Whether a file mentions a parent directory, as in `-I$(src)/../include`."""
    data = Path(file.path).read_bytes()
    return bool(re.search(rb"(?<!\.)\.\./", data))


_SETTINGS = ("lkm.toml", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")


def _tests(module: ModuleSource, root: Path) -> Iterator[SourceFile]:
    """What pytest may read: every file of the source's directory, and settings in those above it."""
    pending = [module.directory]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.is_dir() and not path.name.startswith((".", "__pycache__")):
                pending += [] if path.is_symlink() or sources.is_ours(path) else [path]
            elif path.is_file():
                yield _file(path, root)
    above = module.directory.parents if root != module.directory else ()
    for parent in above:
        if parent.is_relative_to(root):
            yield from (
                _file(parent / name, root) for name in _SETTINGS if (parent / name).is_file()
            )


def _file(path: Path, root: Path) -> SourceFile:
    status = path.stat()
    name = path.relative_to(root).as_posix()
    return SourceFile(name, str(path), status.st_mode & 0o777, status.st_size)


def _digest(root: Path, files: Sequence[SourceFile]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        content = hashlib.blake2b(Path(file.path).read_bytes(), digest_size=20).digest()
        digest.update(f"{file.name!r} {file.mode:o} ".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()
