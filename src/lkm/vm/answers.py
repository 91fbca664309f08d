"""What the agent's answers say."""

from __future__ import annotations

from collections.abc import Sequence

from lkm.log import Record, merge, parse_console, parse_kmsg
from lkm.machine import Left, ParameterFile
from lkm.vm.link import Reply, told
from lkm.vm.wire import MARK

__all__ = ["CALLBACKS", "left_in", "parameter_files", "records_of"]

CALLBACKS = {
    "param": "the read of the parameters",
    "read": "the read of a file",
    "write": "the write of a file",
    "list": "the look into a directory",
}
"""What runs a module's own functions: one that does not return is the module's fault, not the machine's."""


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


def records_of(reply: Reply) -> list[Record]:
    """The log that a reply carries, without the agent's marks."""
    records = parse_kmsg(reply.log)
    if reply.console:
        records = merge(records, parse_console(reply.console))
    return [record for record in records if record.text != MARK]
