"""Problems traced to lines of source: which frame, which place, which file, and what is never shown."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import pytest
from tests.unit.no_sources import NoSources

from lkm.arch import X86_64
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.ko.elf import read_elf
from lkm.log import Record
from lkm.problems import Module, Problem, find, needs_addresses, to_dict, trace
from lkm.problems.text import calls, evidence, place
from lkm.sourcefiles import SourceFiles
from lkm.symbolize import DebugInfo
from lkm.targets import Targets, targets_of

DATA = Path(__file__).parents[1] / "data"
OBJECT = DATA / "symbolize" / "5.10" / "crash.ko.xz"
TEXT = (DATA / "modules" / "crash.c").read_text()
HEADERS = "/usr/src/linux-headers-5.10.0-32-common"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with crash.c, and crash.ko.xz where `lkm build` puts it."""
    built = tmp_path / "build" / "5.10"
    built.mkdir(parents=True)
    (tmp_path / "crash.c").write_text(TEXT)
    (built / "crash.ko.xz").write_bytes(OBJECT.read_bytes())
    later = (tmp_path / "crash.c").stat().st_mtime + 5
    os.utime(built / "crash.ko.xz", (later, later))
    return tmp_path


def kernel(*binds: tuple[Path, str]) -> Kernel:
    tools = Toolchain("bullseye", Path("/nowhere"), "gcc-10", "0")
    return Kernel("5.10", X86_64, "debian", Path("/i"), "/b", binds, Path("/c"), tools, "0")


def targets(home: Path) -> Targets:
    return targets_of(home / "build" / "5.10" / "crash.ko.xz", kernel())


def lines(*texts: str) -> list[Record]:
    return [Record(None, 1.0, None, 0, text) for text in texts]


INFO = DebugInfo(lzma.decompress(OBJECT.read_bytes()), "crash.ko")


def traced(*texts: str, sections: dict[str, int] | None = None) -> tuple[Problem, ...]:
    return trace(find(lines(*texts)), [Module("crash", INFO, sections or {})], NoSources())


def oops(where: str, *frames: str) -> list[str]:
    return [
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        f"RIP: 0010:{where}",
        "Call Trace:",
        *(f" {frame}" for frame in frames),
        "---[ end trace 0 ]---",
    ]


def extent(name: str) -> int:
    function = INFO.functions.named(name, None)
    assert function
    return function.extent


def line_of(text: str) -> int:
    (number,) = (n for n, line in enumerate(TEXT.split("\n"), 1) if line.strip() == text)
    return number


def test_the_place_at_fault_is_the_users_line_and_not_the_headers() -> None:
    size = extent("corrupt_list")
    inlined = next(n for n in range(size) if len(INFO.places("corrupt_list", n)) > 2)
    (problem,) = traced(*oops(f"corrupt_list+{inlined:#x}/{size:#x} [crash]"))
    assert problem.fault
    *inner, outer = problem.fault.places
    assert all("/include/linux/list.h" in str(each.file) for each in inner)
    assert (problem.file, problem.line) == ("/build/crash.c", outer.line)
    assert outer.line in (line_of("one.next = &two;") - 1, line_of("list_del(&one);"))


def test_a_fault_in_the_kernel_is_traced_to_the_users_first_call() -> None:
    size = extent("leak_in_work")
    called = f"leak_in_work+{size - 6:#x}/{size:#x} [crash]"
    (problem,) = traced(*oops("memcpy+0x3/0x10", "? divide+0x1/0x20 [crash]", called, "f+0x1/0x2"))
    assert (problem.function, problem.module) == ("leak_in_work", "crash")
    assert problem.fault == problem.trace[1]
    assert not problem.fault.exact
    assert problem.fault.places == INFO.places("leak_in_work", size - 7)


def test_the_instruction_that_faulted_is_exact_and_a_caller_is_a_return_address() -> None:
    (problem,) = traced(*oops("divide+0xd/0x20 [crash]", "crash_init+0x30/0x1000 [crash]"))
    assert problem.fault
    assert problem.fault.exact
    assert problem.fault.places == INFO.places("divide", 0xD)
    assert problem.trace[0].places == INFO.places("crash_init", 0x2F)


def test_a_frame_of_another_module_has_no_place_and_is_passed_over_for_the_users() -> None:
    (problem,) = traced(*oops("f+0x1/0x9 [other]", "g+0x1/0x9 [other]", "divide+0xd/0x20 [crash]"))
    assert (problem.module, problem.function) == ("other", "divide")
    assert [bool(frame.places) for frame in problem.trace] == [False, True]


def test_bare_addresses_get_their_functions_from_where_the_sections_were() -> None:
    text = 0xFFFFFFFFC0201000
    function = INFO.functions.named("divide", None)
    assert function
    report = oops(f"{text + function.value + 13:#x}", f"{text + function.value + function.size:#x}")
    assert needs_addresses(find(lines(*report)))
    (problem,) = traced(*report, sections={".text": text})
    assert problem.fault
    assert (problem.function, problem.offset, problem.size) == ("divide", 13, function.extent)
    assert (problem.module, problem.address) == ("crash", text + function.value + 13)
    assert problem.fault.places == INFO.places("divide", 13)
    (frame,) = problem.trace
    assert (frame.function, frame.offset) == ("divide", function.size)
    (untraced,) = traced(*report)
    assert (untraced.function, untraced.address) == (None, text + function.value + 13)


def test_only_addresses_in_the_module_area_are_worth_a_twin() -> None:
    assert not needs_addresses(find(lines(*oops("0x10", "f+0x1/0x2"))))
    assert not needs_addresses(find(lines(*oops("divide+0xd/0x20 [crash]"))))


def test_a_variable_that_was_freed_is_named_with_its_declaration_and_its_function() -> None:
    data = 0xFFFFFFFFC0203000
    elf = read_elf(lzma.decompress(OBJECT.read_bytes()), "crash.ko")
    (symbol,) = (each for each in elf.symbols.defined(b"timer.") if each.size)
    section = elf.sections[symbol.section].name
    report = [
        f"BUG: unable to handle page fault for address: {data + symbol.value + 8:016x}",
        "RIP: 0010:__run_timers+0xd7/0x2b0",
        "Call Trace:",
        " run_timer_softirq+0x1a/0x30",
        "---[ end trace 0 ]---",
    ]
    assert needs_addresses(find(lines(*report)))
    (problem,) = traced(*report, sections={section: data})
    assert problem.summary.endswith(
        "(in freed memory: timer+0x8 [crash], which refers to keep_preempt_off())"
    )
    assert (problem.module, problem.function) == ("crash", "__run_timers")
    assert (problem.file, problem.line) == (
        "/build/crash.c",
        line_of("static DEFINE_TIMER(timer, keep_preempt_off);"),
    )
    (untraced,) = traced(*report, sections={section: data + (1 << 20)})
    assert (untraced.module, untraced.line) == (None, None)


# With files


def of_source(home: Path, compiled_at: str = "/build", *binds: tuple[Path, str]) -> SourceFiles:
    """The files of a build that saw its source at `compiled_at`."""
    files = SourceFiles(targets(home), kernel(*binds))
    files._own = [(compiled_at, home)]
    return files


def problem_in(home: Path) -> Problem:
    report = find(lines(*oops(f"divide+0xd/{extent('divide'):#x} [crash]")))
    (problem,) = trace(report, [Module("crash", INFO)], of_source(home))
    return problem


def test_five_lines_are_shown_and_the_one_at_fault_is_marked(home: Path) -> None:
    problem = problem_in(home)
    assert problem.source
    number = line_of("return 100 / zero;")
    assert (problem.source.line, problem.source.first) == (number, number - 2)
    assert list(problem.source.lines) == TEXT.split("\n")[number - 3 : number + 2]
    assert not problem.source.changed
    assert (problem.file, problem.line) == (str(home / "crash.c"), number)
    text = evidence(problem)
    assert f"> {number} |         return 100 / zero;" in text
    assert text[0].endswith(f"crash.c:{number}")
    assert place(problem) == f"{home}/crash.c:{number}"
    assert json.loads(json.dumps(to_dict(problem)))["source"]["lines"] == list(problem.source.lines)


def test_a_file_that_was_written_to_since_is_said_to_be(home: Path) -> None:
    later = (home / "crash.c").stat().st_mtime + 60
    os.utime(home / "crash.c", (later, later))
    problem = problem_in(home)
    assert problem.source
    assert problem.source.changed
    assert "changed" in evidence(problem)[-1]


def test_a_file_that_has_become_shorter_is_not_shown(home: Path) -> None:
    (home / "crash.c").write_text("int x;\n")
    problem = problem_in(home)
    assert problem.source is None
    assert problem.line == line_of("return 100 / zero;")


def test_what_a_terminal_would_obey_is_spelled_out(home: Path) -> None:
    (home / "crash.c").write_text("\x1b[31m\x9b\r\n" + "x" * 1000 + "\n")
    source = of_source(home).excerpt("/build/crash.c", 1)
    assert source
    assert source.lines[0] == "\\x1b[31m\\x9b"
    assert source.lines[1] == "x" * 240 + "..."


def test_nothing_outside_of_the_source_and_the_headers_is_opened(
    home: Path, tmp_path: Path
) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-secret.c"
    secret.write_text("the key\n")
    (home / "link.c").symlink_to(secret)
    os.mkfifo(home / "fifo.c")
    (home / "directory.c").mkdir()
    (home / "key.pem").write_text("the key\n")
    files = of_source(home)
    for name in ("link.c", "fifo.c", "directory.c", "key.pem", "gone.c"):
        assert files.excerpt(f"/build/{name}", 1) is None
    assert files.excerpt(str(secret), 1) is None
    assert files.excerpt(f"/build/../{secret}", 1) is None
    assert files.excerpt("/etc/passwd", 1) is None
    assert files.excerpt("/build/a\0b.c", 1) is None
    assert files.excerpt("/build/crash.c", 0) is None


def test_a_header_of_the_kernel_is_found_where_the_kernel_is(home: Path, tmp_path: Path) -> None:
    host = tmp_path / "store"
    (host / "include").mkdir(parents=True)
    (host / "include" / "list.h").write_text("one\ntwo\n")
    files = of_source(home, "/build", (host, HEADERS))
    assert not files.is_own(f"{HEADERS}/include/list.h")
    assert files.is_own("/build/crash.c")
    source = files.excerpt(f"{HEADERS}/include/list.h", 2)
    assert source
    assert (source.file, source.lines) == (str(host / "include" / "list.h"), ("one", "two"))


def test_a_module_without_debug_info_is_shown_as_the_kernel_named_it() -> None:
    (problem,) = trace(find(lines(*oops("f+0x1/0x9 [m]", "g+0x1/0x9 [m]"))), [], NoSources())
    assert calls(problem) == []
    assert evidence(problem) == []
    assert place(problem) is None
