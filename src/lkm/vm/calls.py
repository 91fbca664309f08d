"""One request of a conversation, and what went wrong as the error that says whose fault it was."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from lkm.errors import LkmError, MachineError, ModuleFailure, UsageError
from lkm.vm.channel import ChannelClosed, ChannelTimeout, Garbled
from lkm.vm.link import Reply, closed_meanwhile, collect, told
from lkm.vm.mux import (
    HELD_LIMIT,
    Conversation,
    ConversationEnded,
    GuestHalted,
    MuxClosed,
    Overflow,
)
from lkm.vm.qmp import QmpClosed
from lkm.vm.wire import Op

if TYPE_CHECKING:
    from lkm.vm.machine import Machine

__all__ = ["FAILURES", "blame", "call"]

FAILURES = (
    ChannelTimeout, ChannelClosed, ConversationEnded, GuestHalted, Overflow, QmpClosed,
)  # fmt: skip
"""What a conversation may raise; `blame` makes the public error of it."""

_STACK_LIMIT = 3.0


def call(
    machine: Machine,
    conversation: Conversation,
    op: Op,
    payload: bytes,
    *,
    doing: str,
    timeout: float | None = None,
    path: str | None = None,
    note: str = "",
) -> Reply:
    """Ask, and wait for the answer. `doing` is what an error says was being done, `read /dev/x`.

    An OSError says `note` behind what its errno means.

    Raises OSError with the guest's errno; ModuleFailure when there is no answer within `timeout` seconds;
    KernelProblem when the kernel reported one meanwhile; MachineError when the machine is gone.
    """
    limit = timeout or machine.timeout
    deadline = time.monotonic() + limit
    reply = Reply()
    try:
        with conversation.lock:
            request = conversation.send(op, payload, deadline=deadline)
            while True:
                frame = conversation.receive(deadline)
                if frame.id == request:
                    collect(reply, frame)
                    if frame.op == Op.END:
                        break
    except FAILURES as error:
        raise blame(machine, error, doing=doing, limit=limit, conversation=conversation) from error
    if reply.status:
        raise OSError(reply.status, os.strerror(reply.status) + note, path)
    return reply


def blame(
    machine: Machine,
    error: Exception,
    *,
    doing: str,
    limit: float,
    conversation: Conversation | None = None,
) -> LkmError:
    """The public error for what a conversation raised. One that does not answer is ended."""
    if isinstance(error, ChannelTimeout):
        stack = _stack(machine, conversation) if conversation else []
        if conversation:
            conversation.close()
        if problem := machine.died(doing) or machine.new_problem():
            return problem
        return ModuleFailure(f"{doing} has not returned after {limit:g} s", evidence=stack)
    if isinstance(error, ConversationEnded):
        if problem := machine.new_problem():
            return problem
        by = signal.Signals(error.signal).name if error.signal else "its end"
        return ModuleFailure(f"{doing} was ended by {by} in the guest")
    if isinstance(error, Overflow):
        return UsageError(
            f"{doing}: more than {HELD_LIMIT >> 20} MiB came that nobody took",
            hint="have it write to a file in the guest and read that, or read its stdout as it comes",
        )
    if isinstance(error, MuxClosed):
        return closed_meanwhile()
    if isinstance(error, Garbled):
        return ModuleFailure(f"{doing}: what answered was not the agent: {error}")
    return machine.died(doing) or MachineError(
        f"{doing}: the machine has gone: {error}", stage="conversation"
    )


def _stack(machine: Machine, conversation: Conversation) -> list[str]:
    """Where in the kernel the process at the other end is; empty for a guest that does not answer."""
    if conversation.pid is None:
        return []
    other = machine.link.mux.conversation()
    path = f"/proc/{conversation.pid}/stack".encode() + b"\0"
    try:
        deadline = time.monotonic() + _STACK_LIMIT
        other.send(Op.READ, path, deadline=deadline)
        reply = Reply()
        while (frame := other.receive(deadline)).op != Op.END:
            collect(reply, frame)
    except FAILURES:
        machine.interrupt()
        return []
    finally:
        other.close()
    return b"".join(reply.data).decode(errors="replace").splitlines()


def number(reply: Reply) -> int:
    """The value of an answer that is a 64-bit number."""
    value: int = told("<q", reply.value)[0]
    return value
