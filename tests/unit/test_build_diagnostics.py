"""Reading what compiler, modpost, objtool and make say."""

from __future__ import annotations

import pytest

from lkm.kbuild import diagnostics
from lkm.kbuild.diagnostics import Diagnostic

GCC = """\
  CC [M]  hello.o
In file included from sub/a.h:3,
                 from hello.c:1:
b.h:7:5: warning: "X" redefined
    7 | #define X 2
      |         ^
b.h:3:9: note: this is the location of the previous definition
    3 | #define X 1
      |         ^
hello.c: In function 'init':
hello.c:9:17: error: 'y' undeclared (first use in this function)
    9 |         int x = y;
      |                 ^
hello.c:9:17: note: each undeclared identifier is reported only once
  CC [M]  print.o
make[3]: *** [scripts/Makefile.build:244: hello.o] Error 1
""".splitlines()


def test_a_complaint_has_its_context_excerpt_and_notes() -> None:
    warning, error = diagnostics.parse(GCC, lambda path: f"/src/{path}")
    assert warning == Diagnostic(
        "/src/b.h", 7, 5, "warning", '"X" redefined',
        (
            "In file included from /src/sub/a.h:3,",
            "                 from /src/hello.c:1:",
            '/src/b.h:7:5: warning: "X" redefined',
            "    7 | #define X 2",
            "      |         ^",
            "/src/b.h:3:9: note: this is the location of the previous definition",
            "    3 | #define X 1",
            "      |         ^",
        ),
    )  # fmt: skip
    assert (error.file, error.line, error.column, error.severity) == (
        "/src/hello.c",
        9,
        17,
        "error",
    )
    assert error.lines[0] == "/src/hello.c: In function 'init':"
    assert error.lines[-1].endswith("reported only once")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.c:4:10: fatal error: x.h: No such file", ("a.c", 4, 10, "error", "x.h: No such file")),
        ("a.S:3: Error: no such instruction: `foo'", ("a.S", 3, None, "error", "no such instruction: `foo'")),
        ("Kbuild:3: *** missing separator.  Stop.", ("Kbuild", 3, None, "error", "missing separator.  Stop.")),
        (
            "make[2]: *** No rule to make target 'x.o', needed by 'm.o'.  Stop.",
            (None, None, None, "error", "No rule to make target 'x.o', needed by 'm.o'.  Stop."),
        ),
        (
            'ERROR: modpost: "foo" [/m/a.ko] undefined!',
            (None, None, None, "error", 'modpost: "foo" [/m/a.ko] undefined!'),
        ),
        (
            "WARNING: modpost: missing MODULE_DESCRIPTION() in a.o",
            (None, None, None, "warning", "modpost: missing MODULE_DESCRIPTION() in a.o"),
        ),
        (
            "/m/a.o: warning: objtool: f() falls through to next function g()",
            ("/m/a.o", None, None, "warning", "objtool: f() falls through to next function g()"),
        ),
        (
            "gcc-14: error: unrecognized command-line option '-fx'",
            (None, None, None, "error", "gcc-14: error: unrecognized command-line option '-fx'"),
        ),
    ],
)  # fmt: skip
def test_every_tool_s_way_of_complaining_is_known(line: str, expected: tuple[object, ...]) -> None:
    (found,) = diagnostics.parse([line])
    assert (found.file, found.line, found.column, found.severity, found.text) == expected
    assert found.lines == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "  CC [M]  error.o",
        "make: Entering directory '/usr/src/linux'",
        "make[1]: *** [Makefile:1992: /m] Error 2",
        "warning: the compiler differs from the one used to build the kernel",
        "hello",
        "",
        "12:30:01 done",
    ],
)
def test_other_output_is_no_complaint(line: str) -> None:
    assert diagnostics.parse([line]) == ()


def test_a_warning_of_a_shared_header_is_told_once() -> None:
    lines = [
        "a.h:1:1: warning: w",
        "    1 | x",
        "  CC [M]  b.o",
        "a.h:1:1: warning: w",
        "    1 | x",
    ]
    assert len(diagnostics.parse(lines)) == 1


def test_steps_of_kbuild_do_not_belong_to_a_complaint() -> None:
    (found,) = diagnostics.parse(
        ["a.c:1:1: warning: w", "  LD [M]  a.ko", "  MODPOST Module.symvers"]
    )
    assert found.lines == ("a.c:1:1: warning: w",)


def test_a_diagnostic_survives_json() -> None:
    (found,) = diagnostics.parse(["a.c:1:1: warning: w", "    1 | x"])
    data = {**found.to_dict(), "lines": list(found.lines)}
    assert Diagnostic.from_dict(data) == found


def test_the_targets_that_complained_are_known() -> None:
    assert diagnostics.complaining(GCC) == ("hello.o",)
    assert diagnostics.complaining(["  CC [M]  a.o", "  LD [M]  a.ko"]) == ()
    assert diagnostics.complaining(["  gcc-14 -c a.c", "a.c:1:1: warning: w"]) is None


def test_the_tail_is_without_make_s_noise() -> None:
    lines = [f"line {number}" for number in range(30)] + ["", "make[1]: Leaving directory '/m'"]
    assert diagnostics.tail(lines, 2) == ("line 28", "line 29")


def test_what_a_configure_script_quotes_of_its_trials_is_no_complaint() -> None:
    lines = ["//   test.c:4:16: error: storage size of 'test' isn't known", "a.c:1:2: error: real"]
    assert [found.text for found in diagnostics.parse(lines)] == ["real"]
