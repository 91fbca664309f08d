"""Frames between the host and the agent: the twin of `agent/agent.h`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "BEGINS_LOG",
    "CHUNK",
    "HEADER",
    "LOG_CHANNEL",
    "MARK",
    "PROTOCOL",
    "SESSIONS",
    "TELLS_LOG",
    "Frame",
    "Op",
    "pack",
]

PROTOCOL = 2
SESSIONS = 4
"""How many control ports the agent serves, each by a process of its own."""
CHUNK = 32768 - 12
"""The longest payload that the guest sends in one frame, in bytes."""

LOG_CHANNEL = 1
"""The mux's first channel is about the log: its process is there when a machine is frozen, so that to it only
what comes later is new."""

MARK = "lkm-agent: mark"
"""What the agent writes to the log to close an open line; it is left out of every log."""

HEADER = struct.Struct("<IHhI")


class Op(IntEnum):
    """What a frame is."""

    PING = 1
    LOAD = 2
    UNLOAD = 3
    READ = 4
    WRITE = 5
    LIST = 6
    EXEC = 7
    KMSG = 8
    CLOCK = 9
    PARAMS = 10
    STACKS = 11
    POWEROFF = 12
    STAT = 13
    READLINK = 14
    CHANGE = 15
    OPEN = 16
    FILE_CLOSE = 17
    FILE_READ = 18
    FILE_WRITE = 19
    SEEK = 20
    IOCTL = 21
    POLL = 22
    MAP = 23
    UNMAP = 24
    PEEK = 25
    POKE = 26
    PUT = 27
    GET = 28
    INVENTORY = 29
    SETTLE = 30
    IN_AND_OUT = 31
    STDIN = 32
    STDIN_EOF = 33
    SIGNAL = 34
    WINSIZE = 35
    STOP = 36
    CLOSE = 37
    DATA = 64
    LOG = 65
    STDOUT = 66
    STDERR = 67
    END = 68
    STARTED = 69
    TAKEN = 70
    HELLO = 96
    DIED = 97


BEGINS_LOG = (Op.LOAD, Op.UNLOAD, Op.IN_AND_OUT)
"""What leaves out of its answer what the log had before it."""
TELLS_LOG = (*BEGINS_LOG, Op.KMSG, Op.SETTLE)
"""What has some of the log in its answer."""


@dataclass(frozen=True)
class Frame:
    """One frame from the guest.

    `status` is 0 or a positive errno in `Op.END`; in `Op.LOG` it is 1 for what was there before the request.
    """

    op: int
    status: int
    id: int
    payload: bytes


def pack(op: Op, payload: bytes, request: int, *, earlier: bool = False) -> bytes:
    """A frame as bytes. With `earlier` a load or an unload tells first what was in the log before it."""
    return HEADER.pack(len(payload), op, earlier, request) + payload
