"""How long work tells its caller where it is, without printing anything."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress"]


class Progress(Protocol):
    """What long work reports to. The command line draws it; the library's default is `SILENT`."""

    def step(self, text: str) -> None:
        """A new stage has begun, `fetching linux-image-6.12-cloud-amd64`."""

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        """How far the stage is; `total` is None where it is not known. `unit` is `B` or `s`."""


class _Silent:
    def step(self, text: str) -> None:
        pass

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        pass


SILENT: Progress = _Silent()
