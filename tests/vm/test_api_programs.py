"""Programs in the guest from Python: input, output, signals, users, limits."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lkm

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def vm() -> Iterator[lkm.VM]:
    with lkm.kernel().machine() as running:
        yield running


@pytest.mark.parametrize(
    ("script", "returncode", "stdout", "stderr"),
    [
        ("echo out; echo err >&2", 0, b"out\n", b"err\n"),
        ("exit 7", 7, b"", b""),
        ("kill -TERM $$", -signal.SIGTERM, b"", b""),
        ("kill -SEGV $$", -signal.SIGSEGV, b"", b""),
        ("cat; exit 3", 3, b"input", b""),
        ("printf '\\377\\000'", 0, b"\xff\0", b""),
    ],
)
def test_run_gives_the_exit_code_and_the_output(
    vm: lkm.VM, script: str, returncode: int, stdout: bytes, stderr: bytes
) -> None:
    done = vm.run(["sh", "-c", script], stdin=b"input")
    assert (done.returncode, done.stdout, done.stderr) == (returncode, stdout, stderr)
    if returncode:
        with pytest.raises(lkm.CommandError) as failed:
            done.check()
        assert (failed.value.returncode, failed.value.stdout) == (returncode, stdout)
    else:
        assert done.check() is done


def test_a_command_line_that_is_one_text_is_refused(vm: lkm.VM) -> None:
    with pytest.raises(lkm.UsageError, match=r'hint: \["sh", "-c", .echo a > /b.\]'):
        vm.run("echo a > /b")


def test_text_is_whatever_was_printed(vm: lkm.VM) -> None:
    assert vm.run(["printf", "ä\\377"]).text == "ä\\xff"


def test_the_surroundings_of_a_program_can_be_chosen(vm: lkm.VM) -> None:
    script = "echo $COLOUR $HOME; pwd; id -u; id -g"
    done = vm.run(["sh", "-c", script], env={"COLOUR": "red"}, cwd="/sys", user=(1000, 100))
    assert done.text.split() == ["red", "/root", "/sys", "1000", "100"]
    assert vm.run(["sh", "-c", script], user=7).text.split() == ["/root", "/", "7", "7"]


@pytest.mark.parametrize(
    ("argv", "cwd", "returncode", "stderr"),
    [
        (["nonsense"], "/", 127, b"nonsense: No such file or directory\n"),
        (["/proc/version"], "/", 126, b"/proc/version: Permission denied\n"),
        (["true"], "/nowhere", 127, b"/nowhere: No such file or directory\n"),
    ],
)
def test_what_cannot_be_started_ends_as_in_a_shell(
    vm: lkm.VM, argv: list[str], cwd: str, returncode: int, stderr: bytes
) -> None:
    done = vm.run(argv, cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (returncode, b"", stderr)


def test_a_program_is_talked_to_while_it_runs(vm: lkm.VM) -> None:
    with vm.start(["sh", "-c", "while read line; do echo got $line; done"]) as program:
        for word in (b"one", b"two"):
            program.stdin.write(word + b"\n")
            assert program.stdout.readline() == b"got " + word + b"\n"
        assert program.poll() is None
        assert vm.path(f"/proc/{program.pid}").exists()
        program.stdin.close()
        assert program.wait() == 0
        assert program.stdout.read() == b""
    assert not vm.path(f"/proc/{program.pid}").exists()


def test_several_run_beside_each_other(vm: lkm.VM) -> None:
    programs = [vm.start(["sh", "-c", f"read x; echo {number}$x"]) for number in range(5)]
    for program in reversed(programs):
        program.stdin.write(b"!\n")
    assert [program.stdout.read() for program in programs] == [b"%d!\n" % n for n in range(5)]
    assert [program.wait() for program in programs] == [0] * 5


def test_signals_reach_a_program_and_what_it_started(vm: lkm.VM) -> None:
    script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do read x; done"
    with vm.start(["sh", "-c", script]) as program:
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGUSR1)
        assert program.wait() == 5
        assert program.stdout.read() == b"caught\n"
        program.kill()
    with vm.start(["sleep", "1000000"]) as program:
        program.kill()
        assert program.wait() == -signal.SIGKILL


def test_leaving_its_block_kills_a_program(vm: lkm.VM) -> None:
    with vm.start(["sh", "-c", "echo ready; read x"]) as program:
        program.stdout.readline()
    # That its process is gone can be a moment later than the end of its block.
    assert any(not vm.path(f"/proc/{program.pid}").exists() for _ in range(1000))


def test_a_program_that_does_not_end_is_killed(vm: lkm.VM) -> None:
    with pytest.raises(lkm.CommandError, match=r"has not ended after 0\.3 s") as failed:
        vm.run(["sh", "-c", "echo so far; read x < /dev/console"], timeout=0.3)
    assert failed.value.stdout == b"so far\n"
    with vm.start(["sh", "-c", "read x"]) as program, pytest.raises(lkm.CommandError):
        program.wait(0.1)
    assert vm.run(["true"]).returncode == 0


def test_input_and_output_of_10_mb_go_through_cat(vm: lkm.VM) -> None:
    data = os.urandom(10_000_000)
    assert vm.run(["cat"], stdin=data).stdout == data


def test_a_program_that_reads_no_input_ends_all_the_same(vm: lkm.VM) -> None:
    assert vm.run(["true"], stdin=bytes(1_000_000)).returncode == 0
    with vm.start(["true"]) as program:
        program.wait()
        with pytest.raises(BrokenPipeError):
            program.stdin.write(b"x")


def test_more_output_than_is_kept_is_refused(vm: lkm.VM) -> None:
    with pytest.raises(lkm.UsageError, match="printed more than 64 MiB"):
        vm.run(["cat", "/dev/zero"])
    assert vm.run(["true"]).returncode == 0


def test_output_that_nobody_takes_is_the_callers_fault_too(
    vm: lkm.VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lkm.vm.mux.HELD_LIMIT", 1 << 16)
    with vm.start(["cat", "/dev/zero"]) as program:
        while program._talk.ended is None:
            vm.path("/proc/uptime").exists()
        with pytest.raises(lkm.UsageError, match="more than 64 MiB came that nobody took"):
            program.wait()


def test_output_may_be_endless_where_it_is_read(vm: lkm.VM) -> None:
    with vm.start(["yes"]) as program:
        assert program.stdout.read(1 << 20) == b"y\n" * (1 << 19)


def test_eight_threads_share_a_machine(vm: lkm.VM) -> None:
    def work(number: int) -> list[str]:
        path = vm.path(f"/tmp/thread{number}")
        told = []
        for turn in range(5):
            path.write_text(f"{number}.{turn}")
            told.append(vm.run(["cat", str(path)]).text + path.read_text())
        return told

    with ThreadPoolExecutor(8) as pool:
        for number, told in enumerate(pool.map(work, range(8))):
            assert told == [f"{number}.{turn}" * 2 for turn in range(5)]


def test_a_file_is_put_and_got(vm: lkm.VM, tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("small", 5), ("window", 4 << 20), ("large", 9_000_001)):
        data = os.urandom(size)
        (tmp_path / name).write_bytes(data)
        there = vm.put(tmp_path / name, "/root")
        assert str(there) == f"/root/{name}"
        assert there.stat().st_size == size
        assert vm.get(there, tmp_path / "back").read_bytes() == data
        there.unlink()


def test_a_file_is_put_and_got_where_no_memory_is_shared(
    vm: lkm.VM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: lkm.GuestFile, op: object, size: int) -> int:
        raise OSError(errno.ENXIO, "as from a kernel without /dev/mem")

    monkeypatch.setattr(lkm.GuestFile, "bulk", refused)
    for name, size in (("empty", 0), ("large", 300_001)):
        (tmp_path / name).write_bytes(data := os.urandom(size))
        there = vm.put(tmp_path / name, "/root")
        assert vm.get(there, tmp_path / "back").read_bytes() == data


def test_a_tree_keeps_its_modes_and_links(vm: lkm.VM, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "sub" / "program").write_text("#!/bin/sh\necho it runs\n")
    (tree / "sub" / "program").chmod(0o755)
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0o600)
    (tree / "link").symlink_to("sub/program")
    vm.put(tree, "/root/tree")
    assert vm.run(["/root/tree/link"]).text == "it runs\n"
    assert stat.S_IMODE(vm.path("/root/tree/secret").stat().st_mode) == 0o600
    vm.get("/root/tree", tmp_path / "back")
    for path in (tree, *tree.rglob("*")):
        twin = tmp_path / "back" / path.relative_to(tree)
        assert twin.lstat().st_mode == path.lstat().st_mode
        assert path.is_dir() or twin.read_bytes() == path.read_bytes()
    assert str((tmp_path / "back" / "link").readlink()) == "sub/program"


def test_a_full_guest_says_so(vm: lkm.VM, tmp_path: Path) -> None:
    vm.path("/mnt").mkdir(exist_ok=True)
    vm.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"]).check()
    (tmp_path / "large").write_bytes(bytes(5 << 20))
    with pytest.raises(OSError, match="No space"):
        vm.put(tmp_path / "large", "/mnt")
    vm.run(["umount", "/mnt"]).check()


def test_what_is_not_there_cannot_be_copied(vm: lkm.VM, tmp_path: Path) -> None:
    with pytest.raises(lkm.UsageError, match=r"cannot put .*missing"):
        vm.put(tmp_path / "missing", "/root")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(lkm.UsageError, match="not a file, a link or a directory"):
        vm.put(tmp_path / "fifo", "/root/fifo")
    with pytest.raises(FileNotFoundError, match="/root/missing"):
        vm.get("/root/missing", tmp_path)
    with pytest.raises(lkm.UsageError, match="not a file"):
        vm.get("/dev/null", tmp_path)


def test_a_c_program_is_compiled_for_the_guest(vm: lkm.VM, tmp_path: Path) -> None:
    source = tmp_path / "answer.c"
    source.write_text("#include <stdio.h>\nint main(void) { return printf(TEXT) != 2; }\n")
    program = vm.compile(source, flags=['-DTEXT="42"'])
    assert vm.run([str(program)]).check().text == "42"
    source.write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(lkm.BuildError, match="nonsense"):
        vm.compile(source)
