"""Regular expressions for logs with a problem in them."""

from __future__ import annotations

import re
from functools import cached_property

__all__ = ["Later"]


class Later:
    """A regular expression that is compiled when it is first used: most logs have no problem, and need none."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def match(self, text: str) -> re.Match[str] | None:
        """As re.Pattern has it."""
        return self._compiled.match(text)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """As re.Pattern has it."""
        return self._compiled.fullmatch(text)

    def search(self, text: str) -> re.Match[str] | None:
        """As re.Pattern has it."""
        return self._compiled.search(text)
