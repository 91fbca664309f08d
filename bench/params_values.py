"""What `bench.params_differential` draws, and what a kernel should show of it: hypothesis and lkm's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from lkm import params
from lkm.errors import UsageError
from lkm.ko import KernelObject, Parameter
from lkm.params.types import CHARP_LIMIT, TYPES, Series, kstrto, kstrtobool

__all__ = ["Given", "Verdict", "argument_strings", "assignments", "foretold", "shown", "verdict"]

UNCOUNTED = ("a_readonly", "a_rootonly")
"""Arrays of examples/params without a counter: sysfs shows all elements, given or not."""


@dataclass(frozen=True)
class Given:
    """A value for a parameter: bytes as a write(2) has them, or None for the bare name."""

    name: str
    raw: bytes | None


@dataclass(frozen=True)
class Verdict:
    """What lkm says of a value, or of several: 0 or the errno's name, and the lines that the kernel is to log.

    A line is None where lkm shows it shortened.
    """

    errno: str = "0"
    lines: tuple[str | None, ...] = ()


# Values


def _edges() -> list[int]:
    widths = (7, 8, 15, 16, 31, 32, 63, 64, 65, 100)
    near = [(1 << width) + step for width in widths for step in (-1, 0, 1)]
    return [0, 1, 2, 7, 8, 9, 10, *near]


_SPELL = (str, hex, lambda n: hex(n).upper(), lambda n: f"0X{n:X}", lambda n: f"0{n:o}", oct, bin)
_PREFIX = ("", "", "", "-", "+", "--", "+-", "-+", " ", "\t", "\n", "0", "00000000", "0x")
_SUFFIX = (
    "",
    "",
    "",
    "\n",
    "\n\n",
    " ",
    "\r",
    "x",
    "g",
    ".0",
    "_0",
    "e3",
    "\0",
    "\0x",
    "\n\0",
    ",",
)

_numbers = st.builds(
    lambda prefix, number, spell, suffix: prefix + spell(number) + suffix,
    st.sampled_from(_PREFIX),
    st.sampled_from(_edges()) | st.integers(0, 1 << 70),
    st.sampled_from(_SPELL),
    st.sampled_from(_SUFFIX),
)
_near_numbers = st.text("0123456789abcdefABCDEFxX+-_ \n.\u0663\u00a0", max_size=12)
_long_numbers = st.builds(
    lambda digit, count, last: digit * count + last,
    st.sampled_from("0190f"),
    st.sampled_from((15, 16, 17, 18, 19, 20, 21, 22, 23, 63, 64, 65, 1000, 1024, 4095, 5000)),
    st.sampled_from(("", "1", "\n", "z", "1\n")),
)
_integers = _numbers | _numbers | _near_numbers | _long_numbers

_booleans = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from([*"yYnNtTfFeEdDoO012+- ", "on", "of", "oN", "OF", "\u00e0", "\0", "\n", ""]),
    st.sampled_from(("", "", "\n", "es", "n", "N", "f", "F", "\u0130", "\0", " "))
    | st.text(max_size=4),
)

_words = st.text(
    "ab\"',=- \t\n\r\v\f\x01\x7f\\\u00e0\u00a0\u20a0\U0001f600", max_size=20
) | st.text(max_size=8)
_sized = st.builds(
    lambda unit, size, last: (
        (unit * size).encode()[: size - len(last)].decode("utf-8", "ignore") + last
    ),
    st.sampled_from(("x", "\u00e9", "\u20a0", "\U0001f600", "a b", '"', ",")),
    st.sampled_from((14, 15, 16, 17, 1022, 1023, 1024, 1025, 1026, 2048, 4095, 4096, 5000)),
    st.sampled_from(("", "\n", '"', " ", "\0")),
)
_texts = _words | _words | _sized

_any = _integers | _booleans | _texts

_KIND = {"int": _integers, "bool": _booleans, "text": _texts}


@st.composite
def _good(draw: st.DrawFn, parameter: Parameter) -> str:
    """A value, or an array's element, that the parameter takes."""
    kind = TYPES[parameter.kernel_type or ""]
    if kind.base == "bool":
        return draw(st.sampled_from(("y", "n", "1", "0", "on", "off", "Yes", "N\n")))
    if kind.base == "text":
        limit = CHARP_LIMIT if kind.name == "charp" else parameter.max_length or 0
        return draw(st.text("ab =\"'\t", max_size=12)) + "x" * draw(
            st.sampled_from((0, 1, limit - 12))
        )
    number = draw(st.integers(*kind.limits()))
    sign = "-" if number < 0 else draw(st.sampled_from(("", "", "+")))
    spelt = draw(st.sampled_from((f"{abs(number)}", f"{abs(number):#x}", f"0{abs(number):o}")))
    return sign + spelt


@st.composite
def _one_of(draw: st.DrawFn, parameter: Parameter) -> str:
    """A value, or an array's element: half of them good, most others of the parameter's own kind."""
    way = draw(st.integers(0, 9))
    if way < 5:
        return draw(_good(parameter))
    return draw(_KIND[TYPES[parameter.kernel_type or ""].base] if way < 9 else _any)


@st.composite
def _given(draw: st.DrawFn, parameter: Parameter) -> Given:
    if draw(st.integers(0, 19)) == 0:
        return Given(parameter.name, draw(st.none() | st.binary(max_size=8)))
    if not parameter.array:
        return Given(parameter.name, _encoded(draw(_one_of(parameter))))
    between = draw(st.sampled_from((",", ",", ",", ",", ", ", ",,", "\n")))
    element = _good(parameter) if draw(st.booleans()) else _one_of(parameter)
    elements = draw(st.lists(element, max_size=(parameter.max_count or 1) + 1))
    return Given(parameter.name, _encoded(between.join(elements)))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def assignments(module: KernelObject) -> st.SearchStrategy[list[Given]]:
    """Lists of values, each for another parameter of the module."""
    one = st.sampled_from(module.parameters).flatmap(_given)
    return st.lists(one, max_size=12, unique_by=lambda given: given.name)


def argument_strings(module: KernelObject) -> st.SearchStrategy[str]:
    """Whole argument strings, with quotes and white space in every place."""
    names = [each.name for each in module.parameters]
    name = st.sampled_from([*names, *(each.replace("_", "-") for each in names)])
    value = st.sampled_from(
        ("1", "y", "0x7", '"a b"', "a", '"', '""', "1,2", '"1,2"', "", "-1", "\u00e0")
    )
    pair = st.builds(
        lambda *parts: "".join(parts), name, st.sampled_from(("=", "=", "=", "", "==")), value
    )
    other = st.sampled_from(
        ('"', "=", "--", "-", "p_int", "nothing=1", '"p_int=1"', '"p_int="1"', "\u20a0")
    )
    space = st.sampled_from((" ", " ", "  ", "\t", "\n", "\u00a0", "\r", ""))
    return (
        st.lists(st.builds(str.__add__, pair | pair | pair | other, space), max_size=6)
        .map("".join)
        .filter(lambda text: not _oopses(module, text))
    )


def _oopses(module: KernelObject, text: str) -> bool:
    """Whether a kernel before 6.1 may read what is not there: next_arg(), for a lone quote at the end."""
    last = params.parse_arguments(text)[-1:]
    return (module.series or (0, 0)) < (6, 1) and last == [("", None)]


# What becomes of them


def verdict(module: KernelObject, name: str, text: str | None) -> Verdict:
    """lkm's verdict on one value, and the words that it expects from the kernel."""
    try:
        params.check(module, {name: text})
    except UsageError as error:
        found = re.fullmatch(r"the kernel: (.*) \((\w+)\)", error.evidence[1], re.S)
        if found is None:
            raise AssertionError(f"the error does not say the errno: {error}") from error
        return Verdict(found[2], (None if "characters)'" in found[1] else found[1],))
    return Verdict()


def foretold(module: KernelObject, text: str) -> tuple[Verdict, dict[str, str]]:
    """What becomes of an argument string: the verdict, and what sysfs shows of each parameter then.

    Names that nobody knows are ignored, as is everything after `--` (load_module(), kernel/module/main.c). The
    kernel goes on after a value that it refuses, and the last errno is the one (parse_args(), kernel/params.c).
    """
    known = {each.name: each for each in module.parameters}
    state = {name: each.default or "" for name, each in known.items()}
    whole = Verdict()
    for given, value in params.parse_arguments(text):
        if (given, value) == ("--", None):
            break
        name = given.replace("-", "_")
        if name not in known:
            continue
        said = verdict(module, name, value)
        if said.errno == "0":
            state[name] = shown(known[name], value, state[name], module.series)
            continue
        lines = (
            line and line.replace(f"parameter `{name}'", f"parameter `{given}'")
            for line in said.lines
        )
        whole = Verdict(said.errno, (*whole.lines, *lines))
    return whole, state


def shown(parameter: Parameter, text: str | None, before: str, series: Series | None) -> str:
    """What sysfs shows, without the last newline, after a value that the kernel took."""
    if not parameter.array:
        return _one(parameter, text, series)
    elements = [_one(parameter, each, series) for each in (text or "").split(",")]
    if parameter.name in UNCOUNTED:
        elements += before.split(",")[len(elements) :]
    return ",".join(elements)


def _one(parameter: Parameter, text: str | None, series: Series | None) -> str:
    kind = TYPES[parameter.kernel_type or ""]
    if kind.base == "bool":
        return "Y" if text is None or kstrtobool(text, series) else "N"
    if kind.base == "text":
        return text or ""
    number = kstrto(text or "", *kind.limits())
    return f"{number:#08x}" if kind.name == "hexint" else str(number)


def texts_of(state: Mapping[str, str]) -> dict[str, bytes]:
    """The bytes that the files hold."""
    return {name: text.encode("utf-8", "surrogateescape") + b"\n" for name, text in state.items()}
