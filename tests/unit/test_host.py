"""This computer as the machine, as far as no kernel is needed for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lkm import cli, ko
from lkm.end import End
from lkm.errors import HostError, MachineError
from lkm.host import call, require_privilege, require_support
from lkm.host.kmsg import Kmsg
from lkm.kernels import host
from lkm.machine import LoadedModule, parse_modules, taint_letters
from lkm.preflight import Preflight, prepare
from lkm.targets import Target

DATA = Path(__file__).parents[1] / "data" / "ko"


@pytest.mark.parametrize(
    ("number", "letters"),
    [
        (0, ""),
        (1, "P"),
        (1 << 7, "D"),
        (1 << 12 | 1 << 13, "OE"),
        (1 << 9 | 1 << 14, "WL"),
        (1 << 19, "J"),
        (1 << 12 | 1 << 40, "O?"),
    ],
)
def test_taint_is_told_in_the_kernels_letters(number: int, letters: str) -> None:
    assert taint_letters(number) == letters


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("hello 16384 0 - Live 0x0000000000000000 (OE)", LoadedModule("hello", 16384, 0, ())),
        (
            "crc 12288 2 bell,clockwork, Live 0x0000000000000000",
            LoadedModule("crc", 12288, 2, ("bell", "clockwork")),
        ),
        (
            "noexit 12288 0 [permanent], Live 0x0",
            LoadedModule("noexit", 12288, 0, (), permanent=True),
        ),
        ("old 1 - - Live 0x0", LoadedModule("old", 1, 0, ())),
    ],
)
def test_a_line_of_proc_modules_is_taken_apart(line: str, module: LoadedModule) -> None:
    assert parse_modules(f"{line}\n") == [module]


def status(tmp_path: Path, capabilities: str) -> Path:
    path = tmp_path / "status"
    path.write_text(f"Name:\tlkm\nCapPrm:\t000001ffffffffff\nCapEff:\t{capabilities}\nCapBnd:\t0\n")
    return path


@pytest.mark.parametrize(
    ("capabilities", "may"),
    [
        ("000001ffffffffff", True),
        ("0000000000010000", True),
        ("000001fffffeffff", False),
        ("0000000000000000", False),
    ],
)
def test_loading_needs_the_capability(tmp_path: Path, capabilities: str, may: bool) -> None:
    def require() -> None:
        require_privilege(
            "insmod", status=status(tmp_path, capabilities), disabled=tmp_path / "none"
        )

    if may:
        require()
        return
    with pytest.raises(HostError, match="insmod on this computer needs root") as refusal:
        require()
    assert refusal.value.hint
    assert refusal.value.hint.startswith("sudo lkm insmod --host ")


@pytest.mark.parametrize(("value", "may"), [("0\n", True), ("1\n", False)])
def test_a_kernel_may_have_been_told_to_load_no_more(tmp_path: Path, value: str, may: bool) -> None:
    disabled = tmp_path / "modules_disabled"
    disabled.write_text(value)
    everything = status(tmp_path, "000001ffffffffff")
    if may:
        require_privilege("run", status=everything, disabled=disabled)
        return
    with pytest.raises(HostError, match="loads and unloads no modules any more"):
        require_privilege("run", status=everything, disabled=disabled)


def test_a_kernel_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no loadable module support"):
        require_support(tmp_path / "modules")


VERBS = (
    ("insmod", "x.ko"), ("rmmod", "x"), ("lsmod",), ("dmesg",), ("param", "x"), ("run", "x.ko"),
)  # fmt: skip


@pytest.mark.skipif(Path("/proc/modules").exists(), reason="this kernel has module support")
@pytest.mark.parametrize("words", VERBS, ids=lambda words: str(words[0]))
def test_every_verb_refuses_a_computer_without_modules(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert cli.main([*words, "--host"]) == HostError.exit_code
    said = capsys.readouterr()
    assert (said.out, "this kernel has no loadable module support" in said.err) == ("", True)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "x.ko", "-k", "6.1"),
        ("run", "x.ko", "--keep"),
        ("insmod", "x.ko", "-m", "m1"),
        ("rmmod", "x", "-m", "m1"),
        ("lsmod", "-m", "m1"),
        ("dmesg", "-m", "m1"),
        ("param", "x", "-m", "m1"),
    ],
)
def test_this_computer_is_no_other_machine(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert cli.main([*words, "--host"]) == 2
    assert "do not go together" in capsys.readouterr().err


# The process that makes the system call, with others in its place


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(text: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(f"import os, signal, sys\n{text}\n")
        monkeypatch.setattr(call, "_PROGRAM", path)

    return write


def unload(name: str = "x", timeout: float = 60) -> call.Called:
    reader, writer = os.pipe()
    try:
        return call.unload(name, timeout=timeout, log=reader, on_log=lambda: None)
    finally:
        os.close(reader)
        os.close(writer)


def test_its_answer_is_the_errno_and_the_time(program: Callable[[str], None]) -> None:
    program("assert sys.argv[1:] == ['unload', 'x-y']; print(16, 250000000)")
    called = unload("x-y")
    assert (called.end, called.errno, called.guest_seconds) == (End.DONE, 16, 0.25)
    assert (called.stacks, called.remains) == ("", "")


def test_it_gets_the_arguments_and_the_module_whole(program: Callable[[str], None]) -> None:
    program(
        "data = os.pread(int(sys.argv[2]), 100, 0)\n"
        "assert data == b'\\3\\0\\0\\0a=1\\x7fELF', data\n"
        "print(0, 1)"
    )
    reader, writer = os.pipe()
    called = call.load(b"\x7fELF", b"a=1", timeout=60, log=reader, on_log=lambda: None)
    os.close(reader)
    os.close(writer)
    assert (called.end, called.errno) == (End.DONE, 0)


def test_one_that_the_kernel_kills_has_no_errno(program: Callable[[str], None]) -> None:
    program("os.kill(os.getpid(), signal.SIGSEGV)")
    assert unload().end is End.KILLED


def test_one_that_does_not_answer_is_given_up(program: Callable[[str], None]) -> None:
    program("signal.pause()")
    called = unload(timeout=0.5)
    assert (called.end, called.seconds, called.remains) == (End.HUNG, 0.5, "")


def test_one_that_fails_by_itself_is_no_fault_of_the_module(
    program: Callable[[str], None],
) -> None:
    program("sys.exit('no ctypes here')")
    with pytest.raises(MachineError, match="no ctypes here"):
        unload()


def test_the_log_is_read_while_the_call_goes_on(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    # It answers only when the log has been read.
    fifo = tmp_path / "read"
    os.mkfifo(fifo)
    program(f"open({str(fifo)!r}).read(); print(0, 1)")
    reader, writer = os.pipe()
    os.write(writer, b"a record")

    def on_log() -> None:
        os.read(reader, 100)
        with fifo.open("w") as told:
            told.write("read")

    called = call.unload("x", timeout=60, log=reader, on_log=on_log)
    os.close(reader)
    os.close(writer)
    assert called.end is End.DONE


def test_a_log_that_cannot_be_read_says_how_it_can(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="sudo lkm dmesg --host"):
        Kmsg(tmp_path / "kmsg")


# What is asked before


def test_the_running_kernel_is_described_as_far_as_its_files_are_there(tmp_path: Path) -> None:
    release = os.uname().release
    bare = host.running(root=tmp_path)
    assert (bare.release, bare.provider, bare.modules_dir) == (release, "host", None)
    assert bare.build_dir_on_host == tmp_path / f"lib/modules/{release}/build"
    modules = tmp_path / "lib/modules" / release
    (modules / "build").mkdir(parents=True)
    (modules / "build/.config").touch()
    (modules / "modules.dep").touch()
    whole = host.running(root=tmp_path)
    assert (whole.config, whole.modules_dir) == (modules / "build/.config", modules)


def test_without_its_headers_nothing_is_foretold_and_the_release_decides(tmp_path: Path) -> None:
    preflight = prepare(host.running(root=tmp_path), root=tmp_path)
    assert "Module.symvers is not here" in preflight.blind
    path = DATA / "everything-7.3.ko"
    target = Target(ko.read(path), path, path)
    with pytest.raises(HostError, match=f"this computer runs {preflight.release}"):
        preflight.refusal(target, (), ())
    here = Preflight(target.object.release, blind=preflight.blind)
    assert here.refusal(target, (), ()) is None
