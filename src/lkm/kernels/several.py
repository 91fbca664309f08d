"""Several kernels at once: what they have in common is fetched once, the rest side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lkm import config, pool
from lkm.errors import LkmError
from lkm.kernels import catalog, store
from lkm.kernels.kernel import Kernel
from lkm.progress import SILENT, Progress

__all__ = ["WORKERS", "Board", "fetch"]

WORKERS = 4
"""How many kernels are fetched at a time: while one downloads, others unpack, or wait for a mirror."""

Board = Callable[[str], Progress]
"""Gives the progress of one kernel, by its name."""

_Got = Kernel | LkmError


def fetch(
    names: Sequence[str | None],
    *,
    newest: bool = True,
    board: Board = lambda _: SILENT,
) -> list[_Got]:
    """The kernels of these names, in their order, or the error of each that cannot be had.

    Each is what `store.fetch_newest` gives; without `newest` what `store.get` does, which takes what is on this
    disk. `board` is asked for a kernel's progress when its turn comes. An interrupt ends all of it, and what
    was downloaded is there for the next time.
    """
    get = store.fetch_newest if newest else store.get
    each = list(dict.fromkeys(names))
    if not newest:
        each = [name for name in each if not _is_here(name)]
    found: dict[str | None, _Got] = {}

    def fetch_one(name: str | None) -> None:
        found[name] = _tried(partial(get, name, progress=board(name or "the default kernel")))

    with pool.working(WORKERS) as threads:
        jobs = [threads.submit(partial(fetch_one, name)) for name in each]
        threads.results(jobs)
    return [found[name] if name in found else store.get(name, fetch=False) for name in names]


def _tried(job: Callable[[], Kernel]) -> _Got:
    try:
        return job()
    except LkmError as error:
        return error


def _wanted(name: str | None) -> catalog.Wanted:
    return catalog.parse_name(name or config.load().kernel)


def _is_here(name: str | None) -> bool:
    if _wanted(name).provider not in ("debian", "debug"):
        return False
    return not isinstance(_tried(partial(store.get, name, fetch=False)), LkmError)
