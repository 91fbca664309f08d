"""Assignments as users type them, values as the kernel takes them, arguments as init_module gets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm import ko, params
from lkm.errors import UsageError
from lkm.params import Assignment, Parameter, Value
from lkm.params.types import CHARP_LIMIT, TYPES

DATA = Path(__file__).parent.parent / "data" / "ko"
MODULE = ko.read(DATA / "everything-7.3.ko")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "parameters.md"


def text_of(name: str, value: Value, module: ko.KernelObject = MODULE) -> str | None:
    (found,) = params.check(module, {name: value})
    return found.value


def taken(name: str, value: Value, series: tuple[int, int] | None = None) -> bool:
    try:
        params.check(MODULE, {name: value}, series=series)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {}),
        (["a=1"], {"a": "1"}),
        (["file=/a b", "x="], {"file": "/a b", "x": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (["flag"], {"flag": None}),
        (["a=1", "b=2", "a=3"], {"b": "2", "a": "3"}),
        (["a-b=1", "a_b=2"], {"a_b": "2"}),
    ],
)
def test_words_become_values(words: list[str], values: dict[str, str | None]) -> None:
    parsed = params.parse_assignments(words)
    assert list(parsed.items()) == list(values.items())


@pytest.mark.parametrize("word", ["", "=", "=1"])
def test_a_word_without_a_name_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is not a parameter"):
        params.parse_assignments([word])


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("a_byte", 0, 2**8 - 1),
        ("a_short", -(2**15), 2**15 - 1),
        ("a_ushort", 0, 2**16 - 1),
        ("an_int", -(2**31), 2**31 - 1),
        ("a_uint", 0, 2**32 - 1),
        ("a_hexint", 0, 2**32 - 1),
        ("a_long", -(2**63), 2**63 - 1),
        ("a_ulong", 0, 2**64 - 1),
        ("a_ullong", 0, 2**64 - 1),
    ],
)
def test_an_integer_type_takes_its_range_and_no_more(name: str, low: int, high: int) -> None:
    assert text_of(name, low) == str(low)
    assert text_of(name, high) == str(high)
    for beyond in (low - 1, high + 1):
        with pytest.raises(UsageError, match=rf"parameter {name} does not take '{beyond}'"):
            params.check(MODULE, {name: beyond})


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("0", True),
        ("-0", True),
        ("+1", True),
        ("0x1F", True),
        ("0X1f", True),
        ("-0x10", True),
        ("010", True),
        ("00", True),
        ("1\n", True),
        ("0000000000000000000000000000000000000001", True),
        ("9" * 5000, False),
        ("", False),
        ("+", False),
        ("-", False),
        ("++1", False),
        ("+-1", False),
        ("-+1", False),
        ("08", False),
        ("0x", False),
        ("0xg", False),
        ("0b1", False),
        ("1x", False),
        (" 1", False),
        ("1 ", False),
        ("1\n\n", False),
        ("1_0", False),
        ("1.0", False),
        ("\u0663", False),
    ],
)
def test_a_number_is_what_kstrtoint_takes(text: str, good: bool) -> None:
    assert taken("an_int", text) is good


def test_unsigned_types_take_a_plus_and_no_minus() -> None:
    assert taken("a_uint", "+1")
    assert not taken("a_uint", "-0")


BOOLS = {
    (5, 10): "yY1nN0",
    (5, 18): "yY1nN0",
    (5, 19): "yY1nN0tTfF",
    (6, 12): "yY1nN0tTfF",
    (7, 3): "yY1nN0tTfFeEdD",
}


@pytest.mark.parametrize("series", BOOLS)
@pytest.mark.parametrize("name", ["a_bool", "an_invbool", "a_bint"])
def test_a_bool_is_told_by_the_letters_of_the_series(name: str, series: tuple[int, int]) -> None:
    letters = {chr(code) for code in range(1, 256) if taken(name, chr(code) + "?", series)}
    assert letters == set(BOOLS[series])
    second = {chr(code) for code in range(1, 256) if taken(name, "o" + chr(code), series)}
    assert second == set("nNfF")


def test_the_objects_own_release_decides_the_series() -> None:
    old = ko.read(DATA / "everything-5.10.ko")
    assert text_of("a_bool", "true") == "true"
    with pytest.raises(UsageError, match=r"it is bool and takes y/n, 1/0, on/off\n"):
        params.check(old, {"a_bool": "true"})


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("a_charp", "", True),
        ("a_charp", "x" * 1024, True),
        ("a_charp", "x" * 1025, False),
        ("a_charp", "\u00e9" * 512, True),
        ("a_charp", "\u00e9" * 513, False),
        ("a_string", "x" * 15, True),
        ("a_string", "x" * 16, False),
        ("a_string", "\u00e9" * 8, False),
        ("numbers", "1,0x2,-3,010", True),
        ("numbers", "1,2,3,4,5", False),
        ("numbers", "1,,2", False),
        ("numbers", "1,", False),
        ("numbers", "", False),
        ("numbers", "1, 2", False),
        ("words", ",,", True),
        ("words", ",,,", False),
        ("words", "", True),
        ("switches", "y,off", True),
        ("switches", "y,n,y", False),
        ("even", "any thing", True),
        ("poke", "any thing", True),
    ],
)
def test_texts_and_arrays_are_limited_as_the_object_says(name: str, value: str, good: bool) -> None:
    assert taken(name, value) is good


@pytest.mark.parametrize(
    ("name", "good"),
    [("a_bool", True), ("a_bint", True), ("poke", True), ("an_invbool", False), ("an_int", False),
     ("a_charp", False), ("numbers", False), ("switches", False), ("even", False)],
)  # fmt: skip
def test_a_bare_name_goes_where_the_operations_allow_it(name: str, good: bool) -> None:
    assert taken(name, None) is good


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("an_int", 5, "5"),
        ("a_bool", True, "1"),
        ("a_bool", False, "0"),
        ("an_int", True, "1"),
        ("a_charp", Path("/tmp/x"), "/tmp/x"),
        ("numbers", [1, 2, 3], "1,2,3"),
        ("numbers", (4,), "4"),
        ("words", ["a", "b c"], "a,b c"),
        ("switches", [True, False], "1,0"),
    ],
)
def test_python_values_become_text(name: str, value: Value, text: str) -> None:
    assert text_of(name, value) == text


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("an_int", [1], "not an array"),
        ("numbers", [], "an empty array"),
        ("words", ["a,b"], "commas separate"),
        ("an_int", 1.5, "a float is no value"),
        ("a_charp", b"x", "a bytes is no value"),
        ("numbers", [[1]], "not all text or numbers"),
    ],
)
def test_python_values_that_no_parameter_takes_are_refused(
    name: str, value: Value, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        params.check(MODULE, {name: value})


def test_dashes_and_underscores_are_the_same_in_names() -> None:
    assert params.check(MODULE, {"an-int": "1"}) == (Assignment("an_int", "1"),)
    assert params.check([Parameter("a-b", kernel_type="int")], {"a_b": 1}) == (
        Assignment("a-b", "1"),
    )


def test_an_unknown_name_suggests_the_nearest_and_lists_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        params.check(MODULE, {"a-shrot": "1"})
    assert caught.value.summary == "everything has no parameter 'a-shrot'"
    assert caught.value.hint == "did you mean a_short?"
    assert "a_string (string, at most 15)" in caught.value.evidence[0]


def test_a_module_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="takes no parameters"):
        params.check([], {"a": "1"})


@pytest.mark.parametrize("name", ["dyndbg", "async_probe"])
def test_names_that_the_loader_takes_for_every_module_pass(name: str) -> None:
    assert params.check([], {name: "+p"}) == (Assignment(name, "+p"),)


def test_a_refused_value_is_told_with_its_type_its_limits_and_the_kernels_words() -> None:
    with pytest.raises(UsageError) as caught:
        params.check(MODULE, {"numbers": "1,x"})
    assert str(caught.value).splitlines() == [
        "everything: parameter numbers does not take the element 'x' of '1,x'",
        "  it is array of int (int) and takes a whole number from -2147483648 to 2147483647,"
        " decimal, 0x hexadecimal or 0 octal",
        "  the kernel: everything: `1' invalid for parameter `numbers' (EINVAL)",
        "hint: give numbers=1,1, for example",
    ]


def test_a_text_that_is_too_long_is_not_repeated_in_full() -> None:
    with pytest.raises(UsageError, match=r"takes at most 1024 bytes") as caught:
        params.check(MODULE, {"a_charp": "x" * 9000})
    assert "ENOSPC" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "p"),
        ("", "p="),
        ("1", "p=1"),
        ("a b", 'p="a b"'),
        ("a=b", "p=a=b"),
        ("a\tb\n", 'p="a\tb\n"'),
        ('a"b c"d', 'p=a"b c"d'),
        ('""', 'p=""""'),
        # U+00E0 is C3 A0 in UTF-8, and A0 is white space to the kernel.
        ("\u00e0", 'p="\u00e0"'),
    ],
)
def test_a_value_is_quoted_as_far_as_it_needs_it(value: str | None, text: str) -> None:
    assert params.render([Assignment("p", value)]) == text


@pytest.mark.parametrize("value", ['"a b', '"a b"', '"a b" "', "a\0b"])
def test_a_value_that_no_quoting_expresses_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="cannot be given to the kernel"):
        params.render([Assignment("p", value)])


def test_an_odd_quote_can_only_come_last() -> None:
    odd, other = Assignment("p", 'a"b'), Assignment("q", "1")
    assert params.render([other, odd]) == 'q=1 p=a"b'
    with pytest.raises(UsageError, match="parameter p"):
        params.render([odd, other])


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("  a=1   b ", [("a", "1"), ("b", None)]),
        ('a="x y" b=2', [("a", "x y"), ("b", "2")]),
        ('"a=x y" b=2', [("a", "x y"), ("b", "2")]),
        ('a=x" "y b', [("a", 'x" "y'), ("b", None)]),
        ('a="x y', [("a", "x y")]),
        ("=1", [("=1", None)]),
    ],
)
def test_an_argument_string_is_taken_apart_as_the_kernel_does(
    text: str, pairs: list[tuple[str, str | None]]
) -> None:
    assert params.parse_arguments(text) == pairs


VALUES = st.none() | st.text(alphabet='ab"=,-_ \t\n\u00e0\u20a0\x01', max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["p", "some_name"]), VALUES), max_size=4))
def test_what_is_rendered_reads_back_as_it_was(pairs: list[tuple[str, str | None]]) -> None:
    try:
        text = params.render([Assignment(name, value) for name, value in pairs])
    except UsageError:
        assert any('"' in (value or "") for _, value in pairs)
    else:
        assert params.parse_arguments(text) == pairs


def test_the_page_has_every_type_with_its_c_type_and_limits() -> None:
    table = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    rows = {row[0].strip("| `"): row[1:] for row in table if len(row) == 4}
    assert rows.keys() == TYPES.keys()
    for name, (c_type, takes, _) in rows.items():
        kind = TYPES[name]
        assert c_type.replace("[N]", "[]") == kind.c_type
        if kind.base == "int" and "word" not in takes:
            low, high = kind.limits()
            assert takes == f"a number, {low} to {high}"
        assert (kind.base == "text") == takes.startswith("text")
        assert kind.noarg == ("bare name" in takes)
    assert f"at most {CHARP_LIMIT} bytes" in rows["charp"][1]
    assert [kind.name for kind in TYPES.values() if kind.limits(32) != kind.limits(64)] == [
        "long",
        "ulong",
    ]
