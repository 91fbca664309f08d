"""Machines that stay, and kmod's verbs on them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODULES = ROOT / "tests" / "data" / "modules"


def test_the_verbs_follow_kmods_manner(lkm: Any, machine: str) -> None:
    loaded = lkm("insmod", str(EXAMPLES / "getargs"), "array=1,2")
    assert (loaded.returncode, loaded.stdout) == (0, "")
    assert "getargs: => array\t= [ 1 2 0 0 0 0 0 0]" in lkm("dmesg").stdout
    header, *rows = lkm("lsmod").stdout.splitlines()
    assert header == "Module                  Size  Used by"
    assert any(re.fullmatch(r"getargs +\d+  0", row) for row in rows)
    unloaded = lkm("rmmod", "getargs")
    assert (unloaded.returncode, unloaded.stdout) == (0, "")
    assert "getargs" not in lkm("lsmod").stdout


def test_what_cannot_be_done_is_said_with_its_errno(lkm: Any, machine: str) -> None:
    assert lkm("insmod", str(EXAMPLES / "hello")).returncode == 0
    again = lkm("insmod", str(EXAMPLES / "hello"))
    assert again.returncode == 1
    assert "EEXIST" in again.stderr
    assert "hint: it is loaded already: lkm rmmod hello" in again.stderr
    gone = lkm("rmmod", "nothing")
    assert gone.returncode == 1
    assert "ENOENT" in gone.stderr
    assert lkm("insmod", str(MODULES / "noexit.c")).returncode == 0
    stays = lkm("rmmod", "noexit")
    assert stays.returncode == 1
    assert "no exit function" in stays.stderr
    wrong = lkm("insmod", str(EXAMPLES / "getargs"), "intparam=x")
    assert wrong.returncode == 2
    assert "intparam" in wrong.stderr
    assert lkm("param", "hello", "nope").returncode == 2


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie that nobody has waited for."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    except OSError:
        return False


def test_ps_lists_and_down_ends(lkm: Any, runtime_dir: Path) -> None:
    for name in ("one", "two"):
        assert lkm("up", name).returncode == 0
    (one, two) = json.loads(lkm("ps", "--json").stdout)["machines"]
    assert (one["name"], two["name"]) == ("one", "two")
    assert runs(one["pid"])
    several = lkm("lsmod")
    assert several.returncode == 2
    assert "-m NAME" in several.stderr
    taken = lkm("up", "one")
    assert taken.returncode == 2
    assert lkm("down", "one").returncode == 0
    assert not runs(one["pid"])
    assert lkm("lsmod").returncode == 0
    assert lkm("down", "three").returncode == 2
    os.kill(two["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while json.loads(lkm("ps", "--json").stdout)["machines"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lkm("ps").stdout.splitlines() == ["NAME  KERNEL  PID  UP"]
    nobody = lkm("dmesg")
    assert nobody.returncode == 2
    assert "hint: lkm up" in nobody.stderr
    assert lkm("up", "two").returncode == 0


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "x" * 80])
def test_a_name_that_is_none_is_refused(lkm: Any, name: str) -> None:
    assert lkm("up", "--", name).returncode == 2


def test_a_command_in_the_guest_has_its_streams_and_its_code(lkm: Any, machine: str) -> None:
    done = lkm("sh", "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "err\n")
    assert lkm("sh", "--", "no-such-program").returncode == 127
    assert lkm("sh", "--", "sh", "-c", "kill -9 $$").returncode == 137
    data = bytes(range(256)) * 4096
    copied = subprocess.run(
        [sys.executable, "-m", "lkm", "sh", "--", "cat"],
        input=data,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert copied.stdout == data


def test_an_oops_in_insmod_leaves_a_machine_that_answers(lkm: Any, machine: str) -> None:
    done = lkm("insmod", str(MODULES / "oops_init.c"))
    assert done.returncode == 1
    assert "NULL pointer dereference" in done.stderr
    assert "NULL pointer dereference" in lkm("dmesg").stdout
    assert "oops_init" in lkm("lsmod").stdout


def test_a_panic_in_insmod_is_told_and_then_the_machine_is_gone(lkm: Any, machine: str) -> None:
    done = lkm("insmod", str(MODULES / "panics.c"))
    assert done.returncode == 1
    assert "panics: asked for" in done.stderr
    after = lkm("lsmod", timeout=60)
    assert after.returncode in (2, 5)
    assert "hint: " in after.stderr


def test_four_sessions_at_once_and_not_a_fifth(lkm: Any, machine: str) -> None:
    words = [sys.executable, "-m", "lkm", "sh", "--", "sh", "-c", "echo in; sleep 100"]
    shells = [
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for _ in range(4)
    ]
    try:
        for shell in shells:
            assert shell.stdout is not None
            assert shell.stdout.readline() == b"in\n"
        fifth = lkm("lsmod")
        assert fifth.returncode == 2
        assert "in use" in fifth.stderr
    finally:
        for shell in shells:
            shell.kill()
            shell.communicate()
    assert lkm("lsmod").returncode == 0


def test_run_can_keep_its_machine(lkm: Any) -> None:
    done = lkm("run", str(EXAMPLES / "hello"), "--keep")
    assert done.returncode == 0
    (kept,) = json.loads(lkm("ps", "--json").stdout)["machines"]
    assert kept["name"] in done.stdout
    assert "hello: exit" in lkm("dmesg").stdout


def test_what_runs_in_freed_memory_of_a_kept_machine_gets_its_name(lkm: Any) -> None:
    late = Path(__file__).parents[1] / "data" / "modules" / "late.c"
    words = ["what=kthread", "ms=100", "--keep", "--settle", "0.5", "--json"]
    (module,) = json.loads(lkm("run", str(late), *words).stdout)["modules"]
    assert module["problems"][0]["function"] == "late_kthread"


def test_the_shell_has_a_terminal_of_its_own(lkm: Any, machine: str) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execv(sys.executable, [sys.executable, "-m", "lkm", "sh"])
    seen = b""

    def expect(text: bytes, seconds: float = 30) -> None:
        nonlocal seen
        deadline = time.monotonic() + seconds
        while text not in seen:
            assert select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0], seen
            seen += os.read(master, 4096)

    expect(b"# ")
    os.write(master, b"sleep 1000\n")
    time.sleep(0.5)
    os.write(master, b"\x03")
    seen = b""
    os.write(master, b"echo ali''ve; test -t 0 && echo t''ty\n")
    expect(b"alive")
    expect(b"tty")
    os.write(master, b"exit 3\n")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 3
