"""Results of builds: kept by content key in lkm's store, and published where the user looks.

A stored build is a directory that appears by one rename, with a manifest that says the size of each of
its files; a published file appears by one rename, with the stored file's time.
"""

# ruff: noqa: PTH116 - hundreds of headers are looked at before a build that does nothing
from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm.errors import UsageError
from lkm.kbuild.workdir import WorkDir, remove_tree
from lkm.source import MARKER, ModuleSource, is_ours

__all__ = ["Stored", "claim", "is_published", "load", "publish", "save", "stamps"]

KEPT = 8
"""Builds kept for one (source, kernel); the least recently used go first."""

Stamp = tuple[str, int, int]


@dataclass(frozen=True)
class Stored:
    """A build in the store: `published` names the files that the user gets, `manifest` is plain data."""

    path: Path
    manifest: dict[str, Any]

    @property
    def published(self) -> tuple[str, ...]:
        return tuple(self.manifest["published"])


def load(work: WorkDir, key: str) -> Stored | None:
    """The stored build of that key; None where there is none, or where a header it read has changed."""
    path = work.builds / key
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if any(os.stat(path / name).st_size != size for name, size in manifest["sizes"].items()):
            return None
        if any(_stamp(name) != (size, mtime) for name, size, mtime in manifest["dependencies"]):
            return None
        os.utime(path)
    except (OSError, ValueError, KeyError):
        return None
    return Stored(path, manifest)


def stamps(paths: Iterable[str]) -> tuple[Stamp, ...]:
    """(path, size, mtime in ns) of each file that exists: what `load` compares."""
    return tuple((path, *stamp) for path in sorted(set(paths)) if (stamp := _stamp(path)))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def save(
    work: WorkDir, key: str, files: dict[str, Path | bytes], manifest: dict[str, Any]
) -> Stored:
    """Put a build into the store, all or nothing; `files` maps names in it to files or contents."""
    work.builds.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=work.builds, prefix=".new-"))
    try:
        for name, content in files.items():
            _write(temporary / name, content)
        sizes = {name: (temporary / name).stat().st_size for name in files}
        text = json.dumps({**manifest, "sizes": sizes})
        (temporary / "manifest.json").write_text(text, "utf-8")
        remove_tree(work.builds / key)
        temporary.rename(work.builds / key)
    except BaseException:
        remove_tree(temporary)
        raise
    _prune(work)
    return Stored(work.builds / key, json.loads(text))  # what a later `load` gives


def _write(target: Path, content: Path | bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    # The work tree is an untrusted Makefile's: a link must not be followed.
    fd = os.open(content, os.O_RDONLY | os.O_NOFOLLOW)
    with open(fd, "rb") as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)


def _prune(work: WorkDir) -> None:
    """Drop what is old, and what interrupted processes left; the lock is held."""
    with os.scandir(work.builds) as listing:
        builds = sorted(listing, key=lambda entry: -entry.stat().st_mtime_ns)
    finished = [entry for entry in builds if not entry.name.startswith(".new-")]
    for entry in {*builds} - {*finished[:KEPT]}:
        remove_tree(Path(entry.path))


def claim(source: ModuleSource, output: Path | None) -> tuple[Path, bool]:
    """The directory below which a source's artifacts go, and whether it is to be marked as lkm's.

    Raises UsageError where files of the user's would be mixed with artifacts.
    """
    base = output.absolute() if output else source.directory / "build"
    if is_ours(base):
        return base, True
    is_new = not base.exists() or (base.is_dir() and not any(base.iterdir()))
    if is_new and not base.is_symlink():
        return base, True
    if output and base.is_dir() and not base.resolve().is_relative_to(source.directory):
        return base, False
    raise UsageError(
        f"{base} is not lkm's: artifacts are not put among files of yours",
        hint="lkm build -o DIR, with DIR outside the source",
    )


def is_published(stored: Stored, target: Path) -> bool:
    """Whether every file is at `target` as it was published (size and time)."""
    return all(
        (stamp := _stamp(str(target / name))) and stamp == _stamp(str(stored.path / name))
        for name in stored.published
    )


def publish(stored: Stored, base: Path, release: str, *, mark: bool, only: bool) -> None:
    """Put a stored build's files into `base`/`release`, each by one rename; the lock is held.

    With `mark` the directory becomes lkm's own. With `only`, modules of earlier builds go away.
    """
    target = base / release
    target.mkdir(parents=True, exist_ok=True)
    if mark and not is_ours(base):
        _replace(base / ".gitignore", f"{MARKER}\n*\n".encode())
    for name in stored.published:
        _replace(target / name, stored.path / name)
    if mark and only:
        for old in target.glob("*.ko"):
            if old.name not in stored.published:
                old.unlink(missing_ok=True)


def _replace(target: Path, content: Path | bytes) -> None:
    from lkm import atomic

    # Two sources of one directory may publish their Module.symvers at once.
    with atomic.replacing(target) as fresh:
        if isinstance(content, bytes):
            fresh.write_bytes(content)
        else:
            shutil.copy2(content, fresh)
