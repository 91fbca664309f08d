"""What `lkm_interpose` is told of a function: the bytes of its `struct lkm_rule`. Pure.

The numbers are those of module/interpose.h; tests/unit/test_interpose.py compares them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

__all__ = ["NOTHING", "NO_FLAGS", "RULE", "Check", "Fail", "Flag", "Key", "Plan", "Rule", "Success"]

RULE = struct.Struct("<8BIIIIqQQ")
"""struct lkm_rule."""
_GFP_SHIFT = 16


class Key(IntEnum):
    """Where the name of an object comes from."""

    NONE = 0
    RETURN = 1
    ARG0 = 2
    ARG1 = 3
    ARG2 = 4
    ARG3 = 5
    ARG4 = 6
    ARG5 = 7
    AT_ARG0_32 = 8
    AT_ARG0 = 9
    AT_ARG3 = 10
    AT_ARG4 = 11
    RETURN_PAGE = 12
    ARG0_PAGE = 13
    ARG0_32 = 14
    ARG1_32 = 15
    ARG2_32 = 16
    RETURN_OR_ARG0 = 17
    RCU = 18
    ONE = 19
    NAME0 = 20


class Success(IntEnum):
    """Which return values say that something was taken."""

    NEVER = 0
    POINTER = 1
    ZERO = 2
    NOT_NEGATIVE = 3
    TRUE = 4
    ALWAYS = 5


class Fail(IntEnum):
    """How a call is failed."""

    NOT = 0
    VALUE = 1
    COPY = 2
    COPY_ZEROED = 3
    CLEAR = 4
    KOBJECT = 5
    DEVICE = 6
    PLATFORM = 7
    NULL_AT0 = 8
    NULL_AT5 = 9


class Check(IntEnum):
    """How the end sees that an object is not there any more."""

    NONE = 0
    VMALLOC = 1
    TIMER = 2
    HRTIMER = 3
    WORK = 4
    DELAYED_WORK = 5
    NETDEV = 6
    DEVICE = 7
    MUTEX = 8
    LOCK = 9


class Flag(IntFlag):
    """What else there is to a function."""

    KERNEL_FREES = 1
    MOVES = 2
    STACK = 4
    LOCK = 8
    ONCE = 16
    MEMORY = 32
    BULK = 64
    ALL = 128


NO_FLAGS = Flag(0)


@dataclass(frozen=True)
class Plan:
    """What is to be done with the calls: `fail` that one (from 1 on; 0 none), `record` all of them.

    Without `faults` only what belongs to a pair is watched.
    """

    fail: int = 0
    record: bool = False
    faults: bool = False


NOTHING = Plan()
"""Nothing fails, nothing is recorded."""


@dataclass(frozen=True)
class Rule:
    """One function: how it fails, what it takes, what it gives back. `gfp` has a bit for each of its arguments
    that may be GFP flags.
    """

    name: str
    fail: Fail = Fail.NOT
    failure: int = 0
    success: Success = Success.NEVER
    family: int = 0
    check: Check = Check.NONE
    key: Key = Key.NONE
    key2: Key = Key.NONE
    give: Key = Key.NONE
    give2: Key = Key.NONE
    flags: Flag = NO_FLAGS
    gfp: int = 0
    gives: int = 0
    partners: int = 0

    @property
    def fallible(self) -> bool:
        """Whether a call of it can be failed."""
        return self.fail is not Fail.NOT

    def pack(self, number: int, plan: Plan = NOTHING) -> bytes:
        """The struct, with the number that the kernel's side will call it by, and what is to be done."""
        return RULE.pack(
            self.fail, self.success, self.family, self.check, self.key, self.key2, self.give, self.give2,
            self.flags | self.gfp << _GFP_SHIFT, number, plan.fail, plan.record, self.failure,
            self.gives, self.partners,
        )  # fmt: skip
