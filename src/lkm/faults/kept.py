"""Results of earlier runs with the same input, which may have been interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lkm import atomic
from lkm.faults.fault import Fault, Result
from lkm.paths import cache_dir

__all__ = ["Kept"]


class Kept:
    """The faults of one input, whose digest is `key`."""

    def __init__(self, key: str) -> None:
        self._home = cache_dir() / "faults" / key

    def among(self, numbers: Iterable[int]) -> dict[int, Fault]:
        """Those of the calls that are known."""
        return {n: fault for n in numbers if (fault := self._read(n))}

    def keep(self, fault: Fault) -> None:
        """Remember it; not one that may be another the next time."""
        if fault.result in (Result.HANG, Result.NOT_REACHED):
            return
        self._home.mkdir(parents=True, exist_ok=True)
        atomic.write(self._file(fault.n), json.dumps(fault.to_dict()))

    def _read(self, n: int) -> Fault | None:
        try:
            return Fault.from_dict(json.loads(self._file(n).read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, n: int) -> Path:
        return self._home / f"{n}.json"
