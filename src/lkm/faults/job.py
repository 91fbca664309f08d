"""What `lkm faults` asks of the pytest that runs a test, and what that says: JSON in two files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Counted", "Job", "Wanted"]


@dataclass(frozen=True)
class Wanted:
    """The n-th call of all is the `call`-th (from 1 on) of the `load`-th time (from 0 on) that the test loads
    the module."""

    n: int
    test: str
    load: int
    call: int


@dataclass(frozen=True)
class Job:
    """Run the tests with the module that `source` makes watched: once to count, or once for each of `wanted`.

    `timeout` is in seconds, for each thing that a machine is asked, `limit` for a test in which a call fails.
    The lines of the answer go to `answer`.
    """

    source: str
    module: str
    timeout: float
    answer: str
    limit: float = 0.0
    wanted: tuple[Wanted, ...] | None = None

    def write(self, path: Path) -> None:
        """For `read`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: str) -> Job:
        """What `write` wrote."""
        facts = json.loads(Path(path).read_text())
        wanted = facts.pop("wanted")
        return cls(
            **facts, wanted=None if wanted is None else tuple(Wanted(**each) for each in wanted)
        )

    def say(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Add a line to the answer."""
        with Path(self.answer).open("a") as file:
            file.write(json.dumps({kind: facts}) + "\n")

    def answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The whole lines that there are by now."""
        try:
            text = Path(self.answer).read_text()
        except FileNotFoundError:
            return
        for line in text[: text.rfind("\n") + 1].splitlines():
            ((kind, facts),) = json.loads(line).items()
            yield kind, facts


@dataclass(frozen=True)
class Counted:
    """What a test did with no call failed.

    `outcome` is pytest's word, `reason` one line where that is not `passed`, and where the module has a
    `problem`. `loads` has for each load of the module the calls that can fail until the next, each as a number
    that stands for its place and phase; `others` the modules of other names, and of another content, that were
    loaded. `reached` are the numbers of the module's call sites that were reached.
    """

    test: str
    outcome: str
    reason: str | None = None
    problem: str | None = None
    seconds: float = 0.0
    loads: tuple[tuple[int, ...], ...] = ()
    others: tuple[str, ...] = ()
    reached: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Counted:
        """What `to_dict` gave."""
        lists = {name: tuple(facts[name]) for name in ("others", "reached")}
        return cls(**{**facts, **lists, "loads": tuple(map(tuple, facts["loads"]))})
