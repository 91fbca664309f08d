"""A store that a bench may fill and throw away."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lkm import paths

__all__ = ["own"]


def own(*shared: str) -> Path:
    """An empty store, from now on that of this process, with the entries `shared` of the user's own."""
    home, users = Path(tempfile.mkdtemp(prefix="lkm-bench-")), paths.cache_dir()
    for name in shared:
        if (users / name).exists():
            (home / name).symlink_to((users / name).resolve())
    os.environ["LKM_CACHE_DIR"] = os.fspath(home)
    return home
