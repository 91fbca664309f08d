"""Results of cells on this disk, by what they depend on: an unchanged cell need not run.

CACHE/matrix/results/KK/KEY.json, each written whole and renamed. The key is of the source's content, the
kernel's name, the parameters and lkm's code. The file says with which kernel and toolchain it was made,
and is believed only while the kernel of that name on this disk, if there is one, is still that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

from lkm import atomic, code, paths
from lkm.errors import LkmError
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult

__all__ = ["Kept", "sweep"]

SCHEMA = 1
_KEPT_DAYS = 90


class Kept:
    """The results on this disk. What each kernel is, is looked up once."""

    def __init__(self) -> None:
        self._identities: dict[str, tuple[str, str] | None] = {}

    def find(self, cell: Cell) -> CellResult | None:
        """The result of a cell that ran before, with `kept` set; None where there is none to believe."""
        path = _path(cell)
        try:
            document = json.loads(path.read_bytes())
            if (document["schema"], document["key"]) != (SCHEMA, _key(cell)):
                return None
            result = CellResult.from_dict(document["cell"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        here = self._identity(cell.kernel)
        if here and here != (result.kernel_identity, result.toolchain_identity):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return replace(result, source=cell.source.name, kept=True)

    def keep(self, cell: Cell, result: CellResult) -> None:
        """Put a verdict on this disk, and nothing else. Raises HostError for a full disk and the like."""
        if not result.is_verdict or result.kept:
            return
        document = {"schema": SCHEMA, "key": _key(cell), "cell": result.to_dict()}
        path = _path(cell)
        with atomic.disk_errors(f"the result of {cell.row} on {cell.kernel} is not kept"):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, json.dumps(document))

    def _identity(self, kernel: str) -> tuple[str, str] | None:
        from lkm.kernels import store

        if kernel not in self._identities:
            self._identities[kernel] = None
            with contextlib.suppress(LkmError):
                found = store.get(kernel, fetch=False)
                self._identities[kernel] = found.identity, found.toolchain.identity
        return self._identities[kernel]


def sweep() -> None:
    """Remove results that nobody has asked for in 90 days."""
    old = time.time() - _KEPT_DAYS * 86400
    for path in _top().glob("*/*.json"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < old:
                path.unlink()


def _top() -> Path:
    return paths.cache_dir() / "matrix" / "results"


def _path(cell: Cell) -> Path:
    key = _key(cell)
    return _top() / key[:2] / f"{key}.json"


def _key(cell: Cell) -> str:
    source = cell.source
    parts = [
        SCHEMA, code.identity(), source.path.relative_to(source.root).as_posix(), source.digest, cell.kernel,
        list(cell.params), cell.tests, cell.timeout,
    ]  # fmt: skip
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
