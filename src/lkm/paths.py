"""Where lkm keeps things: the store in the user's cache, keys in the data, sockets in the runtime directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["cache_dir", "config_file", "data_dir", "runtime_dir"]


def cache_dir() -> Path:
    """The store: `$LKM_CACHE_DIR`, or `lkm` in the user's cache directory. It may not exist yet."""
    if given := os.environ.get("LKM_CACHE_DIR"):
        return Path(given).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("lkm", appauthor=False))


def config_file() -> Path:
    """The configuration: `$LKM_CONFIG`, or `lkm/lkm.toml` in the user's configuration directory."""
    if given := os.environ.get("LKM_CONFIG"):
        return Path(given).absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("lkm", appauthor=False)) / "lkm.toml"


def data_dir() -> Path:
    """What cannot be made again: `$LKM_DATA_DIR`, or `lkm` in the user's data directory."""
    if given := os.environ.get("LKM_DATA_DIR"):
        return Path(given).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("lkm", appauthor=False))


def runtime_dir() -> Path:
    """A directory for sockets, mode 0700, made when missing: below `$XDG_RUNTIME_DIR` or /tmp."""
    base = os.environ.get("LKM_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        path = Path(base) / "lkm"
    else:
        path = Path(tempfile.gettempdir()) / f"lkm-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        from lkm.errors import HostError

        raise HostError(
            f"{path} belongs to another user", hint="set LKM_RUNTIME_DIR to a directory of yours"
        )
    return path
