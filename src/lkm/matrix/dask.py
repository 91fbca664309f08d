"""Cells on the workers of a Dask cluster: the only place that knows of Dask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from importlib import import_module
from typing import Any

from lkm.errors import HostError

__all__ = ["Dask"]

_CONNECT = 10
"""Seconds to wait for the scheduler."""


class Dask:
    """The workers of the scheduler at an address, `tcp://127.0.0.1:8786`.

    The scheduler itself gives the cells of a worker that dies to another one.
    """

    remote = True

    def __init__(self, address: str) -> None:
        self.address = address

    @contextlib.contextmanager
    def open(self) -> Iterator[Executor]:
        """The cluster as an executor. Leaving it cancels what has not ended there.

        Raises HostError where distributed is not installed or nobody answers at the address.
        """
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise HostError(
                "distributed is not installed", hint="pip install 'lkm[dask]'"
            ) from error
        try:
            client = distributed.Client(self.address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise HostError(
                f"no Dask scheduler at {self.address}: {error}",
                hint="dask scheduler --host 127.0.0.1 --port 8786",
            ) from error
        with client:
            yield client.get_executor(pure=False)
