"""The kernel's own parameter types and what each takes: kernel/params.c and lib/kstrtox.c, 5.10 to 7.3.

The rules are those of the kernel, oddities included: `010` is eight, `yellow` is true, `+1` is a number
for every type and `-1` only for the signed ones. Pure.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

__all__ = [
    "CHARP_LIMIT",
    "TYPES",
    "ParamType",
    "Refusal",
    "Series",
    "kstrto",
    "kstrtobool",
    "refusal",
]

Series = tuple[int, int]
"""A kernel's major and minor version, (6, 12)."""

CHARP_LIMIT = 1024
"""Bytes that param_set_charp() takes, without the NUL."""


@dataclass(frozen=True)
class ParamType:
    """A type of <linux/moduleparam.h>: `name` as in `param_ops_NAME`, `c_type` of the variable.

    `size` is the variable's in bytes on a 64-bit kernel; `noarg` says whether the bare name, without
    `=`, is a value (KERNEL_PARAM_OPS_FL_NOARG); `base` is `int`, `bool` or `text`.
    """

    name: str
    c_type: str
    size: int
    base: str
    signed: bool = False
    noarg: bool = False

    def limits(self, bits: int = 64) -> tuple[int, int]:
        """The least and greatest value of an integer type, on a kernel of `bits`."""
        width = bits if self.name in ("long", "ulong") else self.size * 8
        return (-(1 << width - 1), (1 << width - 1) - 1) if self.signed else (0, (1 << width) - 1)


_ALL = (
    ParamType("byte", "unsigned char", 1, "int"),
    ParamType("short", "short", 2, "int", signed=True),
    ParamType("ushort", "unsigned short", 2, "int"),
    ParamType("int", "int", 4, "int", signed=True),
    ParamType("uint", "unsigned int", 4, "int"),
    ParamType("long", "long", 8, "int", signed=True),
    ParamType("ulong", "unsigned long", 8, "int"),
    ParamType("ullong", "unsigned long long", 8, "int"),
    ParamType("hexint", "unsigned int", 4, "int"),
    ParamType("charp", "char *", 8, "text"),
    ParamType("string", "char []", 1, "text"),
    ParamType("bool", "bool", 1, "bool", noarg=True),
    ParamType("bool_enable_only", "bool", 1, "bool", noarg=True),
    ParamType("invbool", "bool", 1, "bool"),
    ParamType("bint", "int", 4, "bool", signed=True, noarg=True),
)

TYPES = {kind.name: kind for kind in _ALL}
"""Every type that kernel/params.c exports, by name. hexint came with 5.9."""


@dataclass(frozen=True)
class Refusal:
    """Why the kernel refuses a value: the errno, and what the type takes, to follow 'it takes'."""

    errno: int
    takes: str


_DIGITS = {
    8: re.compile(r"([0-7]+)"),
    10: re.compile(r"([0-9]+)"),
    16: re.compile(r"0[xX]([0-9a-fA-F]+)"),
}


def kstrto(text: str, low: int, high: int) -> int | None:
    """The number that kstrto*(text, 0) makes of `text`; None where it gives -EINVAL.

    A number outside `low`..`high` is returned as it is: the caller knows that it means -ERANGE. So is
    one beyond 64 bits with garbage behind it, as in lib/kstrtox.c, which looks for overflow first.
    """
    sign = text[:1] if text[:1] == "+" or (low < 0 and text[:1] == "-") else ""
    body = text[len(sign) :]
    base = 10
    if body.startswith("0"):
        base = 16 if re.match("0[xX][0-9a-fA-F]", body) else 8
    found = _DIGITS[base].match(body)
    if not found:
        return None
    # Python refuses to convert thousands of digits; 30 are beyond 64 bits in every base.
    magnitude = int(found[1].lstrip("0")[:30] or "0", base)
    if magnitude < 1 << 64 and body[found.end() :] not in ("", "\n"):
        return None
    return -magnitude if sign == "-" else magnitude


_BOOL_LETTERS: tuple[tuple[Series, str, str], ...] = (
    ((0, 0), "yY1", "nN0"),
    ((5, 19), "tT", "fF"),
    ((6, 13), "eE", "dD"),
)
"""(series, first letters of true, of false).

tT and fF: commit 0d6ea3ac94ca, 5.19. eE and dD: commit ae5b3500856f; refused by 6.12 and taken by 6.16, and
in between the kernel is left to judge.
"""


def kstrtobool(text: str, series: Series | None = None) -> bool | None:
    """The truth that kstrtobool() of the series makes of `text`; None where it gives -EINVAL.

    Only the first letter counts, the first two for `on` and `off`. Without a series everything goes that
    any series takes.
    """
    if text[:1] in ("o", "O"):
        return {"n": True, "f": False}.get(text[1:2].lower()) if text[1:2].isascii() else None
    for since, true, false in _BOOL_LETTERS:
        if text and (series is None or series >= since) and text[0] in true + false:
            return text[0] in true
    return None


def refusal(
    kind: ParamType,
    text: str,
    *,
    series: Series | None = None,
    bits: int = 64,
    room: int | None = None,
) -> Refusal | None:
    """Why the kernel of `series` refuses `text` for a parameter of this type; None where it takes it.

    `room` is the limit of a `string` in bytes, without the NUL.
    """
    if kind.base == "int":
        return _integer_refusal(kind, text, bits)
    if kind.base == "bool":
        return _bool_refusal(text, series)
    limit = CHARP_LIMIT if kind.name == "charp" else room
    if limit is not None and len(text.encode("utf-8", "surrogateescape")) > limit:
        return Refusal(errno.ENOSPC, f"at most {limit} bytes")
    return None


def _integer_refusal(kind: ParamType, text: str, bits: int) -> Refusal | None:
    low, high = kind.limits(bits)
    number = kstrto(text, low, high)
    if number is None:
        what = f"a whole number from {low} to {high}, decimal, 0x hexadecimal or 0 octal"
        return Refusal(errno.EINVAL, what)
    if not low <= number <= high:
        return Refusal(errno.ERANGE, f"{low} to {high}")
    return None


def _bool_refusal(text: str, series: Series | None) -> Refusal | None:
    if kstrtobool(text, series) is not None:
        return None
    words = ["y/n", "1/0", "on/off"]
    words += ["true/false"] if kstrtobool("t", series) else []
    words += ["enable/disable"] if kstrtobool("e", series) else []
    return Refusal(errno.EINVAL, ", ".join(words))
