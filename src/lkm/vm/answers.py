"""What the agent's answers say."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator, Sequence

from lkm.end import End
from lkm.errors import MachineError
from lkm.log import Record, lost, merge, parse_console, parse_kmsg
from lkm.machine import Left, Outcome, ParameterFile
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.link import Reply, told
from lkm.vm.wire import MARK, Op

__all__ = [
    "CALLBACKS",
    "as_they_come",
    "left_in",
    "outcome_of",
    "pair_in",
    "parameter_files",
    "records_of",
]

CALLBACKS = {
    "param": "the read of the parameters",
    "read": "the read of a file",
    "write": "the write of a file",
    "list": "the look into a directory",
}
"""What runs a module's own functions: one that does not return is the module's fault, not the machine's."""


_REQUEST = re.compile(r"modprobe -q -- (\S+)")
"""What the agent logs when the kernel runs modprobe (`vm/agent/main.c`)."""


def parameter_files(frames: Sequence[bytes]) -> dict[str, ParameterFile]:
    """By name, of the answers to `Op.PARAMS`."""
    files: dict[str, ParameterFile] = {}
    for data in frames:
        mode, unread = told("<II", data)
        parameter, _, value = data[8:].partition(b"\0")
        text = None if unread else value.decode(errors="replace").removesuffix("\n")
        files[parameter.decode(errors="replace")] = ParameterFile(mode, text)
    return dict(sorted(files.items()))


def left_in(data: bytes) -> tuple[Left, ...]:
    """Of the answer to `Op.SETTLE`."""
    entries = (entry.split("\t", 2) for entry in data.decode(errors="replace").split("\0"))
    return tuple(Left(*entry) for entry in entries if len(entry) > 1)


def outcome_of(reply: Reply, seconds: float, limit: float) -> Outcome:
    """What became of a request; one that hangs was given up at its limit."""
    records, asked = [], []
    for record in records_of(reply):
        if request := _REQUEST.fullmatch(record.text):
            asked.append(request[1])
        else:
            records.append(record)
    return Outcome(
        reply.end,
        reply.status,
        tuple(records),
        min(seconds, limit) if reply.end is End.HUNG else seconds,
        int.from_bytes(reply.value[:8], "little") / 1e9,
        reply.stacks,
        lost(parse_kmsg(reply.log)),
        left=left_in(b"".join(reply.data)),
        how=reply.how,
        asked=tuple(dict.fromkeys(asked)),
    )


def pair_in(frames: Sequence[bytes], last: Outcome) -> tuple[Outcome, Outcome | None]:
    """The load and the unload of an `Op.IN_AND_OUT`: one outcome of both, and what told of the load alone."""
    if not frames:
        return last, None
    spent, refused = told("<QI", frames[0])
    return (last, None) if refused else (Outcome(End.DONE, 0, (), 0.0, spent / 1e9), last)


def records_of(reply: Reply) -> list[Record]:
    """The log that a reply carries, without the agent's marks."""
    records = parse_kmsg(reply.log)
    if reply.console:
        records = merge(records, parse_console(reply.console))
    return [record for record in records if record.text != MARK]


def as_they_come(session: Channel) -> Iterator[Record]:
    """The records of a log that is followed, until the caller stops or the machine goes."""
    try:
        request = session.send(Op.KMSG, struct.pack("<I", 2), deadline=time.monotonic() + 10)
        while True:
            try:
                frame = session.receive(time.monotonic() + 60)
            except ChannelTimeout:
                continue
            if frame.id == request and frame.op == Op.LOG:
                yield from (r for r in parse_kmsg(frame.payload) if r.text != MARK)
    except ChannelClosed as error:
        raise MachineError("the machine has gone", stage="dmesg", hint="lkm ps") from error
