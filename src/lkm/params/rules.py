"""Module parameters: parse what a user typed, check it by the kernel's rules, render it for the kernel. Pure.

    values = parse_assignments(["array=1,2", "file=/a b"])
    argument = render(check(ko.read("getargs.ko"), values))

The argument string is what init_module(2) takes; how the kernel takes it apart is next_arg() of
lib/cmdline.c, and what each type takes is in `lkm.params.types`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkm.errors import UsageError, errno_name
from lkm.params.types import TYPES, ParamType, Refusal, Series, refusal

if TYPE_CHECKING:
    from lkm.ko import KernelObject

__all__ = [
    "Assignment",
    "Parameter",
    "Value",
    "as_text",
    "check",
    "parse_arguments",
    "parse_assignments",
    "render",
]

Scalar = str | int | bool | os.PathLike[str]
Value = Scalar | Sequence[Scalar] | None
"""What a parameter may be given: None is the bare name, a sequence is an array's elements."""

EVERY_MODULES = ("async_probe", "dyndbg")
"""Names that the loader takes itself, for any module (unknown_module_param_cb, kernel/module)."""

_SPACES = " \t\n\v\f\r\xa0"
"""isspace() of lib/ctype.c, which counts the byte 0xa0, also inside a UTF-8 character."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that a kernel object takes.

    `type` is modinfo's parmtype (`array of int`), empty where it has none. `kernel_type` is the type
    whose rules the kernel applies (`int`, a key of `paramtypes.TYPES`), from the operations that the
    object links to; None for the module's own operations. `max_count` is an array's length, `max_length` a
    `string`'s limit in bytes without the NUL, `size` the variable's (an array's element's) bytes, `perm`
    the mode in sysfs (0: not there), `default` the text that sysfs would show before init runs. `noarg`
    says whether the bare name is a value. None is what the file does not tell.
    """

    name: str
    type: str = ""
    kernel_type: str | None = None
    array: bool = False
    description: str | None = None
    perm: int | None = None
    max_count: int | None = None
    max_length: int | None = None
    size: int | None = None
    default: str | None = None
    noarg: bool | None = None
    unsafe: bool = False
    hwparam: bool = False

    @property
    def c_type(self) -> str | None:
        """The C type of the variable or of an array's element; None for one of the module's own."""
        return TYPES[self.kernel_type].c_type if self.kernel_type in TYPES else None

    def __str__(self) -> str:
        kind = self.type or self.kernel_type or "a type of its own"
        limit = self.max_count if self.array else self.max_length
        return f"{self.name} ({kind}{'' if limit is None else f', at most {limit}'})"


@dataclass(frozen=True)
class Assignment:
    """A value that passed: the parameter's own name, and the text for the kernel (None: bare name)."""

    name: str
    value: str | None


def parse_assignments(words: Sequence[str]) -> dict[str, str | None]:
    """`name=value` words as insmod(8) takes them; a word without `=` is a bare name, with None.

    A name that comes again replaces the earlier value, as the kernel's last one wins; `-` and `_` are
    the same in names. Raises UsageError for a word without a name.
    """
    values: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"{word!r} is not a parameter", hint="write it as name=value")
        for earlier in [other for other in values if _same(other, name)]:
            del values[earlier]
        values[name] = value if equals else None
    return values


def check(
    module: KernelObject | Sequence[Parameter],
    values: Mapping[str, Value],
    *,
    series: Series | None = None,
) -> tuple[Assignment, ...]:
    """The assignments that `values` make, each one that the kernel would take.

    The `series` that decides what bool takes is the object's own where one is given. Parameters of a
    module's own type pass unchecked, but for an array's count. Raises UsageError that names module,
    parameter, value, type and limits; one for an unknown name suggests the nearest.
    """
    if isinstance(module, Sequence):
        rules = _Rules("the module", tuple(module), series, 64)
    else:
        bits = module.elf_class
        rules = _Rules(module.name, module.parameters, series or module.series, bits)
    return tuple(rules.assignment(name, value) for name, value in values.items())


def render(assignments: Sequence[Assignment]) -> str:
    """The argument string that gives the kernel exactly these values.

    A value with white space is put in double quotes. Raises UsageError for one that no quoting
    expresses: lib/cmdline.c knows no escape.
    """
    last = len(assignments) - 1
    return " ".join(_word(item, last=index == last) for index, item in enumerate(assignments))


def parse_arguments(text: str) -> list[tuple[str, str | None]]:
    """The (name, value) pairs that the kernel sees in an argument string: next_arg() of lib/cmdline.c."""
    found = []
    raw = text.encode("utf-8", "surrogateescape").decode("latin-1").lstrip(_SPACES)
    while raw:
        name, value, raw = _next_arg(raw)
        found.append((_utf8(name), None if value is None else _utf8(value)))
    return found


def _utf8(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "surrogateescape")


def _next_arg(args: str) -> tuple[str, str | None, str]:
    quoted = in_quote = args.startswith('"')
    args = args[1:] if quoted else args
    equals = end = 0
    while end < len(args) and (in_quote or args[end] not in _SPACES):
        equals = end if not equals and args[end] == "=" else equals
        in_quote ^= args[end] == '"'
        end += 1
    word, rest = args[:end], args[end + 1 :].lstrip(_SPACES)
    if equals and word[equals + 1 : equals + 2] == '"':
        body = word[equals + 2 :]
        return word[:equals], body.removesuffix('"'), rest
    if quoted:
        word = word.removesuffix('"')
    return (word[:equals], word[equals + 1 :], rest) if equals else (word, None, rest)


def _word(item: Assignment, *, last: bool) -> str:
    """`name=value`, quoted where needed: the first spelling that the kernel reads back as this item."""
    want = [(item.name, item.value)]
    follow = "" if last else " n=v"
    for spelling in _spellings(item):
        seen = parse_arguments(spelling + follow)
        if seen == (want if last else [*want, ("n", "v")]) and "\0" not in spelling:
            return spelling
    raise UsageError(
        f"parameter {item.name}: the value {item.value!r} cannot be given to the kernel",
        evidence=["double quotes group words and cannot be escaped (lib/cmdline.c)"],
        hint="leave the double quotes, the white space or the NUL out",
    )


def _spellings(item: Assignment) -> tuple[str, ...]:
    if item.value is None:
        return (item.name,)
    plain = f"{item.name}={item.value}"
    return plain, f'{item.name}="{item.value}"', f'"{plain}"'


def _same(one: str, other: str) -> bool:
    """parameq() of kernel/params.c."""
    return one.replace("-", "_") == other.replace("-", "_")


@dataclass(frozen=True)
class _Rules:
    module: str
    parameters: tuple[Parameter, ...]
    series: Series | None
    bits: int

    def assignment(self, name: str, value: Value) -> Assignment:
        parameter = next((each for each in self.parameters if _same(each.name, name)), None)
        if parameter is None:
            if name in EVERY_MODULES:
                return Assignment(name, _text(Parameter(name), value, self.module))
            raise self._unknown(name)
        text = _text(parameter, value, self.module)
        if text is None:
            self._check_bare(parameter)
        elif parameter.array:
            self._check_array(parameter, text)
        else:
            self._check_one(parameter, text, text)
        return Assignment(parameter.name, text)

    def _unknown(self, name: str) -> UsageError:
        import difflib

        if not self.parameters:
            return UsageError(
                f"{self.module} has no parameter {name!r}",
                hint=f"{self.module} takes no parameters",
            )
        names = [parameter.name for parameter in self.parameters]
        near = difflib.get_close_matches(name.replace("-", "_"), names, n=1, cutoff=0.5)
        return UsageError(
            f"{self.module} has no parameter {name!r}",
            evidence=[f"it takes {', '.join(map(str, self.parameters))}"],
            hint=f"did you mean {near[0]}?" if near else f"lkm modinfo -p {self.module}",
        )

    def _check_bare(self, parameter: Parameter) -> None:
        if parameter.noarg is False:
            refused = Refusal(errno.EINVAL, f"a value, {parameter.name}=...")
            raise self._refused(parameter, None, None, refused)

    def _check_array(self, parameter: Parameter, text: str) -> None:
        elements = text.split(",")
        for index, element in enumerate(elements):
            if parameter.max_count is not None and index == parameter.max_count:
                takes = f"at most {parameter.max_count} elements; these are {len(elements)}"
                raise self._refused(parameter, text, None, Refusal(errno.EINVAL, takes))
            self._check_one(parameter, text, element)

    def _check_one(self, parameter: Parameter, whole: str, text: str) -> None:
        kind = TYPES.get(parameter.kernel_type or "")
        if kind is None:
            return
        room = parameter.max_length
        if refused := refusal(kind, text, series=self.series, bits=self.bits, room=room):
            raise self._refused(parameter, whole, text if parameter.array else None, refused)

    def _refused(
        self, parameter: Parameter, text: str | None, element: str | None, refused: Refusal
    ) -> UsageError:
        """In the kernel's words (parse_args of kernel/params.c), which would come after a boot.

        It prints of an array the first element alone: param_array() has put a NUL over the comma.
        """
        large = refused.errno == errno.ENOSPC
        printed = (text or "").partition(",")[0] if parameter.array else text or ""
        what = "" if element is None else f"the element {_short(element)} of "
        what += "its bare name" if text is None else _short(text)
        return UsageError(
            f"{self.module}: parameter {parameter.name} does not take {what}",
            evidence=[
                f"it is {_kind_of(parameter)} and takes {refused.takes}",
                f"the kernel: {self.module}: `{_short(printed, bare=True)}' "
                f"{'too large' if large else 'invalid'} for parameter `{parameter.name}'"
                f" ({errno_name(refused.errno)})",
            ],
            hint=f"give {parameter.name}={_example(parameter)}, for example",
        )


def _kind_of(parameter: Parameter) -> str:
    kind = TYPES.get(parameter.kernel_type or "")
    name = parameter.type or (f"array of {kind.name}" if parameter.array and kind else "")
    name = name or (kind.name if kind else "of the module's own type")
    return f"{name} ({kind.c_type})" if kind and kind.c_type != name else name


def _example(parameter: Parameter) -> str:
    kind: ParamType | None = TYPES.get(parameter.kernel_type or "")
    one = {"bool": "y", "text": "abc"}.get(kind.base, "1") if kind else "1"
    many = parameter.array and parameter.max_count != 1
    return f"{one},{one}" if many else one


def _short(text: str, *, bare: bool = False) -> str:
    cut = text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"
    return cut if bare else f"'{cut}'"


def _text(parameter: Parameter, value: Value, module: str) -> str | None:
    """The text of a Python value; UsageError for a value that has none, or not for this parameter."""
    if value is None:
        return None
    if isinstance(value, str | int | os.PathLike):
        return as_text(value)
    problem = None
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        problem = f"a {type(value).__name__} is no value for it"
    elif parameter.kernel_type in TYPES and not parameter.array:
        problem = "it is not an array and takes one value"
    elif not value:
        problem = "an empty array cannot be given"
    elif not all(isinstance(each, str | int | os.PathLike) for each in value):
        problem = "its elements are not all text or numbers"
    elif any("," in _scalar(each) for each in value):
        problem = "commas separate the elements, and no element can have one"
    if problem:
        raise UsageError(f"{module}: parameter {parameter.name}: {problem}", evidence=[repr(value)])
    return as_text(value)


def as_text(value: Scalar | Sequence[Scalar]) -> str:
    """A Python value as the kernel's parameters are written: True is 1, a list has commas."""
    if isinstance(value, str | int | os.PathLike):
        return _scalar(value)
    return ",".join(_scalar(each) for each in value)


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
