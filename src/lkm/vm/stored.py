"""What frozen machines lie on this disk, whoever made them, by what they say of themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm.paths import cache_dir

__all__ = ["Stored", "idle", "meta_of", "snapshots_dir", "stored"]


@dataclass(frozen=True)
class Stored:
    """A frozen machine; `idle` is seconds since it was made or restored.

    `rootfs` is the identity of its root file system, where it has one of Debian packages.
    """

    path: Path
    release: str | None
    rootfs: str | None
    idle: float


def stored() -> Iterator[Stored]:
    """Each frozen machine of the store; what is damaged has no release."""
    for home in snapshots_dir().glob("[!.]*"):
        meta = meta_of(home)
        yield Stored(home, meta.get("release"), meta.get("rootfs"), idle(home))


def snapshots_dir() -> Path:
    """Where snapshots are kept."""
    return cache_dir() / "snapshots"


def idle(home: Path) -> float:
    """Seconds since it was made or restored; 0 for one that another lkm is removing."""
    try:
        return time.time() - (home / "meta.json").stat().st_mtime
    except OSError:
        return 0.0


def meta_of(home: Path) -> dict[str, Any]:
    """What is known of it; empty for one that is damaged."""
    try:
        meta = json.loads((home / "meta.json").read_text())
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}
