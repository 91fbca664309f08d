"""A table in a page of the documentation that a bench makes anew."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write"]


def write(page: Path, mark: str, lines: Iterable[str]) -> None:
    """Put the lines, with today's date above, between the page's two marks."""
    before, _, rest = page.read_text().partition(mark)
    _, _, after = rest.partition(mark)
    today = dt.datetime.now(tz=dt.UTC).date()
    page.write_text("\n".join([f"{before}{mark}\n", f"As of {today}.\n", *lines, "", mark]) + after)
