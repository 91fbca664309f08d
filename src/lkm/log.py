"""What the kernel printed, as records.

Two sources give them. /dev/kmsg has everything: sequence numbers, levels, whole records. The serial
console has only text, but it is what is left of a machine that died. `merge` makes one log of both.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["LEVELS", "Record", "format_dmesg", "lost", "merge", "parse_console", "parse_kmsg"]

LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The names of levels 0 to 7 as dmesg(1) and syslog(3) have them (include/linux/kern_levels.h)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One printk record.

    `time` is in seconds since boot, to the microsecond. `seq` numbers the records from the boot
    on without a gap; it and `level` are None where the console was the source. `facility` is 0 for the
    kernel itself. `text` may have several lines. `continuation` marks a piece that belongs to the
    line before it (pr_cont). `fields` are the properties that a device message carries
    (`SUBSYSTEM`, `DEVICE`).
    """

    seq: int | None
    time: float
    level: str | None
    facility: int
    text: str
    continuation: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


# The numbers are bounded: int() refuses more than 4300 digits, and the kernel prints at most 20.
_KMSG = re.compile(rb"(\d{1,10}),(\d{1,20}),(\d{1,20}),([^;]*);(.*)", re.DOTALL)
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_CONSOLE = re.compile(rb"\[ *(\d{1,12}\.\d{6})\](?:\[ *[TC]\d+[^\]]*\])? ?(.*)", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def parse_kmsg(raw: bytes) -> list[Record]:
    """The records in what was read from /dev/kmsg, in its order; never raises.

    `raw` is any number of records, each as one read(2) gives it. The form is that of
    Documentation/ABI/testing/dev-kmsg (v3.5; `-` and `c` are all that is left of the flags since
    v5.10): `prio,seq,usec,flags[,...];text`, then a line ` KEY=value` a property. What does not have
    it is left out.
    """
    records: list[Record] = []
    for line in raw.split(b"\n"):
        if match := _KMSG.fullmatch(line):
            records.append(_kmsg_record(match))
        elif line.startswith(b" ") and records:
            records[-1] = _with_field(records[-1], line[1:])
    return records


def _kmsg_record(match: re.Match[bytes]) -> Record:
    priority, seq, usec, flags, text = match.groups()
    return Record(
        seq=int(seq),
        time=int(usec) / 1e6,
        level=LEVELS[int(priority) & 7],
        facility=int(priority) >> 3,
        text=_unescape(text),
        continuation=flags[:1] in (b"c", b"+"),
    )


def _with_field(record: Record, line: bytes) -> Record:
    key, equals, value = line.partition(b"=")
    if not equals:
        return record
    return replace(record, fields={**record.fields, _unescape(key): _unescape(value)})


def _unescape(text: bytes) -> str:
    if b"\\" in text:
        text = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text)
    return _decode(text)


def _decode(text: bytes) -> str:
    return text.decode(errors="backslashreplace")


def parse_console(raw: bytes) -> list[Record]:
    """The records in what a serial console received, one a line, in its order; never raises.

    A line of the kernel starts with `[    1.234567] `, or `[    1.234567][  T123] ` with
    CONFIG_PRINTK_CALLER (kernel/printk/printk.c, print_syslog and print_caller), on every line of a
    record of several. Other lines are not the kernel's: the firmware and programs write to the console
    too. They are left out, and so is what precedes the kernel's part of a line.
    """
    found = (_CONSOLE.search(line) for line in raw.replace(b"\r", b"").split(b"\n"))
    return [
        Record(seq=None, time=float(match[1]), level=None, facility=0, text=_decode(match[2]))
        for match in found
        if match
    ]


def merge(kmsg: Sequence[Record], console: Iterable[Record]) -> list[Record]:
    """One log: the records of `kmsg`, and those of `console` that are not among them.

    A machine that died could not send its last records; its console has them. Each extra record
    stands where its time puts it. Console records from before the first of `kmsg` are left out,
    for there the caller's story begins.
    """
    known = _positions(kmsg)
    extra: dict[int, list[Record]] = defaultdict(list)
    at = -1
    for record in console:
        while at + 1 < len(kmsg) and _usec(kmsg[at + 1]) <= _usec(record):
            at += 1
        if kmsg and at < 0:
            continue
        if places := known.get((_usec(record), record.text)):
            at = max(at, places.popleft())
        else:
            extra[at].append(record)
    merged = list(extra[-1])
    for index, record in enumerate(kmsg):
        merged.append(record)
        merged += extra.get(index, ())
    return merged


def _positions(records: Sequence[Record]) -> dict[tuple[int, str], deque[int]]:
    """Where each console line of each record is."""
    positions: dict[tuple[int, str], deque[int]] = defaultdict(deque)
    for index, record in enumerate(records):
        for line in record.text.split("\n"):
            positions[_usec(record), line.replace("\r", "")].append(index)
    return positions


def _usec(record: Record) -> int:
    return round(record.time * 1e6)


def lost(records: Iterable[Record]) -> int:
    """How many records are missing between the first and the last, by the gaps in their numbers.

    The kernel's buffer is a ring: who reads too slowly loses the oldest.
    """
    numbers = sorted({record.seq for record in records if record.seq is not None})
    return numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0


def format_dmesg(record: Record) -> str:
    """The record as dmesg(1) prints it, `[    1.234567] text`, without the final newline.

    The further lines of a text are indented to the first, and control characters shown as `\\x1b`:
    a module's text must not drive the user's terminal.
    """
    stamp = f"[{record.time:12.6f}] "
    text = _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", record.text)
    return stamp + text.replace("\n", "\n" + " " * len(stamp))
