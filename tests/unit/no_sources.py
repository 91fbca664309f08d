"""Sources that have no files: what tests and benches of tracing need of them."""

from __future__ import annotations


class NoSources:
    """The files as the compiler called them, of which those in /build are the user's."""

    def path(self, compiled: str) -> str:
        return compiled

    def is_own(self, compiled: str) -> bool:
        return compiled.startswith("/build/")

    def excerpt(self, compiled: str, line: int) -> None:
        return None
