"""What the kernel of a machine prints."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from lkm.errors import ModuleFailure
from lkm.log import Record, format_dmesg
from lkm.vm.calls import FAILURES, blame

if TYPE_CHECKING:
    from lkm.vm.machine import Machine

__all__ = ["Log"]

_TAINT_NOTES = ("taints kernel.", "tainting kernel")
"""How they end: check_modinfo() and load_module(), kernel/module/main.c, v6.12."""


class Log:
    """The records of a stretch of the log, in order; it grows while the stretch is not over.

    `"text" in log` asks whether a record has that text in it. Looking at it asks the guest for what is
    new; what a guest that died still had on its console is there too.
    """

    def __init__(self, machine: Machine, begin: int = 0, *, only: str | None = None) -> None:
        self._machine = machine
        self._begin = begin
        self._end: int | None = None
        self._only = only

    @overload
    def __getitem__(self, where: int) -> Record: ...
    @overload
    def __getitem__(self, where: slice) -> list[Record]: ...
    def __getitem__(self, where: int | slice) -> Record | list[Record]:
        return self._records()[where]

    def __len__(self) -> int:
        return len(self._records())

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records())

    def __contains__(self, text: object) -> bool:
        if isinstance(text, str):
            return any(text in record.text for record in self._records())
        return text in self._records()

    def __str__(self) -> str:
        return "\n".join(format_dmesg(record) for record in self._records())

    def __repr__(self) -> str:
        return f"<Log of {len(self)} records>"

    @property
    def text(self) -> str:
        """The records' texts, one a line."""
        return "\n".join(record.text for record in self._records())

    def of(self, module: str) -> Log:
        """Only the lines that a module begins with its own name, `NAME: `, as pr_fmt has it.

        The kernel's notes that loading it taints the kernel begin so too; they are left out.
        """
        part = Log(self._machine, self._begin, only=module)
        part._end = self._end
        return part

    def mark(self) -> Log:
        """A log that begins here."""
        return Log(self._machine, self._begin + len(self._all()), only=self._only)

    def since(self, records: Sequence[Record]) -> Log:
        """A log that begins with these records; for none it begins with what comes next."""
        return Log(self._machine, self._machine.kernel_log.position(records), only=self._only)

    def search(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """The first match of a regular expression in a record's text; None without one."""
        expression = re.compile(pattern)
        found = (expression.search(record.text) for record in self._records())
        return next(filter(None, found), None)

    def wait_for(
        self, pattern: str | re.Pattern[str], timeout: float | None = None
    ) -> re.Match[str]:
        """Wait until `search` finds the pattern, for at most `timeout` seconds; then ModuleFailure."""
        limit = timeout or self._machine.timeout
        deadline = time.monotonic() + limit
        log = self._machine.kernel_log
        while (match := self.search(pattern)) is None:
            new = self._guarded(lambda: log.wait(deadline), f"wait for {pattern!r}", limit)
            if not new and time.monotonic() >= deadline:
                tail = [record.text for record in self._records()[-6:]]
                raise ModuleFailure(f"no {pattern!r} in the log after {limit:g} s", evidence=tail)
        return match

    def end(self) -> None:
        """Let the stretch be over with what the guest has told."""
        if self._end is None:
            self._end = len(self._machine.kernel_log.records)

    def _all(self) -> list[Record]:
        log = self._machine.kernel_log
        if self._end is None and self._machine.is_running:
            self._guarded(log.refresh, "read the log", 10.0)
        return log.records[self._begin : self._end]

    def _records(self) -> list[Record]:
        records = self._all()
        if self._only is None:
            return records
        said = [record for record in records if record.text.startswith(f"{self._only}:")]
        return [record for record in said if not record.text.endswith(_TAINT_NOTES)]

    def _guarded(self, work: Callable[[], list[Record]], doing: str, limit: float) -> list[Record]:
        try:
            return work()
        except FAILURES as error:
            raise blame(self._machine, error, doing=doing, limit=limit) from error


# As a base, Sequence[Record] would have mypy refuse `"text" in log`.
Sequence.register(Log)
