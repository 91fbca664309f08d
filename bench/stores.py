"""A store that a bench may fill and throw away."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lkm import paths

__all__ = ["own"]


@contextmanager
def own(*shared: str, of: Path | None = None, beside: Path | None = None) -> Iterator[Path]:
    """An empty store, this process's and its children's as long as the block lasts, and then gone.

    It has the entries `shared` of the store `of`, the user's own for None, and lies in the directory `beside`.
    """
    users, before = of or paths.cache_dir(), os.environ.get("LKM_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="lkm-bench-", dir=beside) as made:
        for name in shared:
            if (users / name).exists():
                Path(made, name).symlink_to((users / name).resolve())
        os.environ["LKM_CACHE_DIR"] = made
        try:
            yield Path(made)
        finally:
            del os.environ["LKM_CACHE_DIR"]
            if before is not None:
                os.environ["LKM_CACHE_DIR"] = before
