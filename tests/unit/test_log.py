"""kmsg records, console text, and what is made of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.log import LEVELS, Record, format_dmesg, lost, merge, parse_console, parse_kmsg

LOGS = Path(__file__).parents[1] / "data" / "logs"


def kernel(seq: int, time: float, text: str) -> Record:
    return Record(seq, time, "info", 0, text)


def console(time: float, text: str) -> Record:
    return Record(None, time, None, 0, text)


def test_a_record_has_number_time_level_facility_and_text() -> None:
    assert parse_kmsg(b"6,339,5140900,-;NET: Registered protocol family 10\n") == [
        Record(339, 5.1409, "info", 0, "NET: Registered protocol family 10")
    ]


@pytest.mark.parametrize(
    ("priority", "level", "facility"),
    [(0, "emerg", 0), (4, "warning", 0), (7, "debug", 0), (30, "info", 3), (12, "warning", 1)],
)
def test_the_priority_is_facility_times_eight_plus_level(
    priority: int, level: str, facility: int
) -> None:
    (record,) = parse_kmsg(b"%d,1,2,-;x\n" % priority)
    assert (record.level, record.facility) == (level, facility)


def test_there_are_eight_levels_and_the_first_is_the_worst() -> None:
    assert len(LEVELS) == 8
    assert LEVELS[0] == "emerg"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb"getargs: => file\x09= /a", "getargs: => file\t= /a"),
        (rb"gr\xc3\xbc\xc3\x9fe", "grüße"),
        (rb"a back\x5cslash", "a back\\slash"),
        (rb"not UTF-8: \xff", "not UTF-8: \\xff"),
        (rb"two\x0alines", "two\nlines"),
        (rb"odd \x4 \xzz \x", r"odd \x4 \xzz \x"),
        (b"semicolon; and, comma", "semicolon; and, comma"),
        (b"", ""),
    ],
)
def test_escapes_in_the_text_are_undone(raw: bytes, text: str) -> None:
    (record,) = parse_kmsg(b"6,1,1,-;" + raw + b"\n")
    assert record.text == text


def test_properties_belong_to_the_record_before_them() -> None:
    raw = (
        b"7,160,424069,-;pci_root PNP0A03:00: host bridge window\n"
        b" SUBSYSTEM=acpi\n DEVICE=+acpi:A\\x20B\n"
        b"6,161,424070,-;next\n"
    )
    first, second = parse_kmsg(raw)
    assert first.fields == {"SUBSYSTEM": "acpi", "DEVICE": "+acpi:A B"}
    assert second.fields == {}


@pytest.mark.parametrize(("flags", "expected"), [(b"-", False), (b"c", True), (b"", False)])
def test_the_flags_mark_a_continuation(flags: bytes, expected: bool) -> None:
    (record,) = parse_kmsg(b"6,1,1," + flags + b";more\n")
    assert record.continuation is expected


def test_further_header_fields_are_passed_over() -> None:
    (record,) = parse_kmsg(b"6,1,1,-,caller=T123,other=;text\n")
    assert record.text == "text"


def test_what_has_not_the_form_of_a_record_is_left_out() -> None:
    records = parse_kmsg(b"garbage\n KEY=value\n6,1,1,-;good\n no equals sign\n\n6,x,1,-;bad\n")
    assert [(record.text, record.fields) for record in records] == [("good", {})]


def test_a_record_that_was_cut_short_is_kept() -> None:
    assert parse_kmsg(b"6,1,1,-;half a li")[0].text == "half a li"


@pytest.mark.parametrize(
    ("raw", "time", "text"),
    [
        (b"[    1.234567] hello: init\r\n", 1.234567, "hello: init"),
        (b"[12345.000001] late", 12345.000001, "late"),
        (b"[    1.234567][  T123] hello: init", 1.234567, "hello: init"),
        (b"[    1.234567][    C0] from an interrupt", 1.234567, "from an interrupt"),
        (b"\x1b[2J\x1b[H[    0.000000] Linux version 6.1.0", 0.0, "Linux version 6.1.0"),
        (b"Starting...[    2.000000] random: crng init done", 2.0, "random: crng init done"),
        (b"[    1.000000]  do_init_module+0x4a/0x1f0", 1.0, " do_init_module+0x4a/0x1f0"),
        (b"[    1.000000] ", 1.0, ""),
        (b"[    1.000000] [    2.000000] twice", 1.0, "[    2.000000] twice"),
    ],
)
def test_a_console_line_of_the_kernel_is_a_record(raw: bytes, time: float, text: str) -> None:
    assert parse_console(raw) == [console(time, text)]


def test_console_lines_that_are_not_the_kernels_are_left_out() -> None:
    raw = b"SeaBIOS (version 1.16)\r\n\r\n[    1.000000] one\r\n/ # ls\r\n[    2.000000] two\r\n"
    assert [record.text for record in parse_console(raw)] == ["one", "two"]


def test_a_dead_machines_last_lines_come_from_its_console() -> None:
    kmsg = [kernel(1, 1.0, "one"), kernel(2, 2.0, "two")]
    serial = [console(1.0, "one"), console(2.0, "two"), console(3.0, "Kernel panic")]
    assert merge(kmsg, serial) == [*kmsg, serial[-1]]


def test_a_quiet_console_adds_its_lines_where_their_time_puts_them() -> None:
    kmsg = [kernel(1, 1.0, "one"), kernel(9, 9.0, "nine")]
    assert merge(kmsg, [console(5.0, "lost")]) == [kmsg[0], console(5.0, "lost"), kmsg[1]]


def test_console_lines_from_before_the_story_are_left_out() -> None:
    kmsg = [kernel(300, 5.0, "loading")]
    assert merge(kmsg, [console(0.5, "boot"), console(5.0, "loading")]) == kmsg


def test_equal_lines_are_told_apart_by_their_number() -> None:
    kmsg = [kernel(1, 1.0, "again")]
    serial = [console(1.0, "again"), console(1.0, "again")]
    assert merge(kmsg, serial) == [kmsg[0], serial[1]]


def test_a_record_of_two_lines_is_two_lines_on_the_console() -> None:
    kmsg = [kernel(1, 1.0, "first\nsecond")]
    assert merge(kmsg, [console(1.0, "first"), console(1.0, "second")]) == kmsg


def test_without_records_the_console_is_the_log() -> None:
    serial = [console(1.0, "one"), console(2.0, "two")]
    assert merge([], serial) == serial


def test_records_out_of_time_order_keep_their_order() -> None:
    kmsg = [kernel(1, 2.0, "cpu 1"), kernel(2, 1.999, "cpu 0"), kernel(3, 3.0, "end")]
    assert merge(kmsg, [console(r.time, r.text) for r in kmsg]) == kmsg


def test_a_real_console_and_its_records_are_one_log() -> None:
    whole = parse_kmsg((LOGS / "captured/6.1/read_null.kmsg").read_bytes())
    serial = [console(record.time, record.text) for record in whole]
    assert [record.text for record in merge(whole[:10], serial)] == [r.text for r in whole]


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([], 0), ([7], 0), ([1, 2, 3], 0), ([1, 5], 3), ([3, 1], 1), ([1, 1], 0), ([None], 0)],
)
def test_gaps_in_the_numbers_are_lost_records(numbers: list[int | None], missing: int) -> None:
    assert lost([Record(number, 0.0, None, 0, "") for number in numbers]) == missing


@pytest.mark.parametrize(
    ("time", "text", "line"),
    [
        (1.234567, "hello: init", "[    1.234567] hello: init"),
        (0.0, "boot", "[    0.000000] boot"),
        (123456.5, "late", "[123456.500000] late"),
        (1.0, "a\nb", "[    1.000000] a\n               b"),
        (1.0, "a\tb", "[    1.000000] a\tb"),
        (1.0, "\x1b[31mred\x07", "[    1.000000] \\x1b[31mred\\x07"),
    ],
)
def test_a_record_is_shown_as_dmesg_shows_it(time: float, text: str, line: str) -> None:
    assert format_dmesg(console(time, text)) == line


@pytest.mark.parametrize("series", ["5.10", "6.1", "6.12", "7.3"])
def test_every_line_of_a_real_log_is_a_record(series: str) -> None:
    (path,) = (LOGS / "clean" / series).glob("boot_and_*.kmsg")
    raw = path.read_bytes()
    records = parse_kmsg(raw)
    assert len(records) == sum(not line.startswith(b" ") for line in raw.splitlines())
    assert lost(records) == 0


PIECES = st.sampled_from(
    [
        b"6,1,1,-;",
        b"\n",
        b" A=",
        b"\\x",
        b"\\xff",
        b"[    1.000000] ",
        b"[",
        b",",
        b";",
        b"9" * 5000,
    ]
)
SOUP = st.lists(PIECES | st.binary(max_size=12), max_size=30).map(b"".join)


@given(SOUP)
def test_no_bytes_make_the_parsers_fail(raw: bytes) -> None:
    kmsg, serial = parse_kmsg(raw), parse_console(raw)
    merged = merge(kmsg, serial)
    assert [record for record in merged if record.seq is not None] == kmsg
    assert lost(merged) >= 0
    for record in merged:
        assert "\x1b" not in format_dmesg(record)


@given(st.text(), st.integers(0, 2**40))
def test_what_the_kernel_escapes_comes_back(text: str, usec: int) -> None:
    # As msg_add_ext_text does it (kernel/printk/printk.c).
    escaped = b"".join(
        b"%c" % byte if 32 <= byte < 127 and byte != 0x5C else b"\\x%02x" % byte
        for byte in text.encode(errors="replace")
    )
    (record,) = parse_kmsg(b"6,1,%d,-;%s\n" % (usec, escaped))
    assert record.text == text.encode(errors="replace").decode()
    assert round(record.time * 1e6) == usec
