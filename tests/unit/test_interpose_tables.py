"""The tables of interpose/ against the prototypes of four series (written by `python -m bench.tables`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lkm.interpose.fallible import FALLIBLE, fallible
from lkm.interpose.pairs import FAMILIES, Give, Take
from lkm.interpose.rules import Fail, Flag, Key, Success

DATA = Path(__file__).parents[1] / "data" / "interpose"
TAKES = [take for family in FAMILIES for take in family.takes]
FUNCTIONS: list[Take | Give] = [*TAKES, *(give for family in FAMILIES for give in family.gives)]


@dataclass(frozen=True)
class Prototype:
    series: str
    file: str
    returns: str
    params: tuple[str, ...]


def _read() -> dict[str, list[Prototype]]:
    found: dict[str, list[Prototype]] = {}
    for line in (DATA / "prototypes.txt").read_text().splitlines():
        name, series, file, text = line.split("\t")
        returns, _, rest = text.partition(f"{name}(")
        params = tuple(_split(rest.removesuffix(")")))
        for each in series.split(","):
            found.setdefault(name, []).append(Prototype(each, file, returns.strip(), params))
    return found


def _split(text: str) -> Iterator[str]:
    depth, part = 0, ""
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += letter
    if part.strip():
        yield part.strip()


PROTOTYPES = _read()


def test_every_function_has_the_prototype_of_each_series_that_exports_it() -> None:
    lines = (DATA / "exported.txt").read_text().splitlines()
    exported = {line.split()[0]: set(line.split()[1:]) for line in lines}
    assert exported == {name: {each.series for each in forms} for name, forms in PROTOTYPES.items()}


def test_a_failure_is_of_the_functions_type() -> None:
    for name in FALLIBLE:
        for each in PROTOTYPES[name]:
            major, minor = map(int, each.series.split("."))
            how = fallible(name, (major, minor))
            if how is None or how.fail in (Fail.COPY, Fail.COPY_ZEROED, Fail.CLEAR):
                continue
            is_pointer = each.returns.endswith("*")
            wanted = {"NULL": is_pointer, "ERR_": is_pointer, "XA_E": is_pointer}
            fits = wanted.get(how.failure[:4], not is_pointer and each.returns != "void")
            assert fits, f"{each.series} {each.returns} {name}(): {how.failure}"
            if how.failure.startswith("-"):
                assert each.returns in ("int", "long", "ssize_t"), f"{each.returns} {name}()"


EFFECTS = {
    Fail.KOBJECT: (0, r"struct kobject \*"),
    Fail.DEVICE: (0, r"struct device \*"),
    Fail.PLATFORM: (0, r"struct platform_device \*"),
    Fail.NULL_AT0: (0, r"const struct firmware \*\*"),
    Fail.NULL_AT5: (5, r"struct snd_(card|pcm) \*\*"),
}


def test_what_a_failure_does_besides_is_done_to_an_argument_of_that_type() -> None:
    seen = set()
    for name, ways in FALLIBLE.items():
        if ways[0].fail in EFFECTS:
            at, kind = EFFECTS[ways[0].fail]
            seen.add(ways[0].fail)
            assert all(re.match(kind, each.params[at]) for each in PROTOTYPES[name]), name
    assert seen == set(EFFECTS)


def test_a_failures_file_defines_the_function() -> None:
    for name, ways in FALLIBLE.items():
        for how in ways:
            assert how.source in {each.file for each in PROTOTYPES[name]}, name


def test_gfp_flags_are_where_the_table_says() -> None:
    for name, ways in FALLIBLE.items():
        for each in PROTOTYPES[name]:
            found = {n for n, param in enumerate(each.params) if "gfp" in param and n < 6}
            said = {n for n in range(6) if ways[0].gfp >> n & 1}
            assert found <= said, f"{each.series} {name}"
            assert bool(found) == bool(said), f"{each.series} {name}"


def test_a_failure_is_that_of_the_series() -> None:
    assert fallible("register_reboot_notifier", (5, 10)) is None
    of_61, of_612 = (fallible("__blk_alloc_disk", series) for series in ((6, 1), (6, 12)))
    assert of_61
    assert of_612
    assert (of_61.failure, of_612.failure) == ("NULL", "ERR_PTR(-ENOMEM)")
    assert fallible("xa_store", (6, 1)) == fallible("xa_store", (7, 3))


_WIDE = ("*", "long", "size_t", "addr_t")
_NARROW = r"(unsigned|int|unsigned int|dev_t|u32)\b"


def _argument(key: Key) -> int | None:
    if Key.ARG0 <= key <= Key.ARG5:
        return key - Key.ARG0
    return key - Key.ARG0_32 if Key.ARG0_32 <= key <= Key.ARG2_32 else None


def test_a_key_is_an_argument_of_its_size() -> None:
    for function in FUNCTIONS:
        for each in PROTOTYPES[function.name]:
            for key in (function.key, function.key2):
                at = _argument(key)
                param = each.params[at] if at is not None else ""
                is_wide = any(word in param for word in _WIDE)
                is_narrow = bool(re.match(_NARROW, param)) and not is_wide
                fits = is_narrow if key >= Key.ARG0_32 else is_wide
                assert fits or at is None, f"{each.series} {function.name}: {param}"


def _fits(success: Success, returns: str) -> bool:
    if success is Success.POINTER:
        return returns.endswith("*") or returns == "unsigned long"
    if success is Success.TRUE:
        return returns in ("int", "bool")
    return success is Success.ALWAYS or returns == "int"


def test_what_says_success_is_what_the_function_returns() -> None:
    for take in TAKES:
        for each in PROTOTYPES[take.name]:
            assert _fits(take.success, each.returns), f"{each.series} {each.returns} {take.name}()"


def test_functions_with_arguments_on_the_stack_are_marked() -> None:
    for take in TAKES:
        forms = PROTOTYPES[take.name]
        needs = any(len(each.params) > 6 or "..." in each.params for each in forms)
        assert needs == bool(take.flags & Flag.STACK), take.name


def _type_at(function: Take | Give) -> set[str]:
    """The C types of what a key names, without const and the parameter's name; empty for `void *` and keys of a
    special kind.
    """
    found = set()
    for each in PROTOTYPES[function.name]:
        at = _argument(function.key)
        text = each.params[at] if at is not None else ""
        if function.key is Key.RETURN:
            text = each.returns
        if match := re.search(r"struct (\w+) ?\*", text):
            found.add(match[1])
    return found


OTHER_TYPES = {
    "cdev memory",
    "slab object",
    "pages",
    "created device",
    "transform",
    "crypto algorithm",
}
"""An embedded kobject or folio, and algorithms of several kinds in one family."""


def test_what_is_taken_and_given_back_is_of_one_type() -> None:
    for family in FAMILIES:
        if family.name in OTHER_TYPES:
            continue
        takes = set().union(*map(_type_at, family.takes))
        gives = set().union(*map(_type_at, family.gives))
        if takes and gives:
            assert gives <= takes, f"{family.name}: {takes} and {gives}"
