"""Ctrl-C, SIGTERM and kill -9 in every stage: nothing is left running, and the store can be believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lkm.kernels import store
from lkm.paths import cache_dir
from lkm.vm import accel, snapshot
from lkm.vm.qemu import Clock

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
HELLO = str(ROOT / "examples" / "hello")
SPIN = str(ROOT / "tests" / "data" / "modules" / "spin.c")
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


@dataclass
class Marked:
    """lkm with a private cache and a mark in its environment, by which its children are found."""

    env: dict[str, str]
    mark: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lkm", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def copy(self, snapshot: Path) -> None:
        """Have a frozen machine of another store in this one."""
        home = Path(self.env["LKM_CACHE_DIR"]) / "snapshots"
        home.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", "--sparse=always", str(snapshot), str(home)], check=True)

    def processes(self) -> Iterator[tuple[int, str]]:
        """What is running with our mark, or with our cache on its command line: QEMU has no environment."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environ = (entry / "environ").read_bytes()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if line and (self.mark.encode() in environ or self.env["LKM_CACHE_DIR"] in line):
                yield int(entry.name), line

    def alive(self) -> list[str]:
        return [line for _, line in self.processes()]

    def alone_within(self, seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


@pytest.fixture
def marked(tmp_path: Path, runtime_dir: Path) -> Iterator[Marked]:
    mark = f"LKM_TEST_MARK={uuid.uuid4()}"
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("kernels", "roots", "accel.json", "agents"):
        if (cache_dir() / name).exists():
            (cache / name).symlink_to(cache_dir() / name)
    name, _, value = mark.partition("=")
    lkm = Marked({**os.environ, "LKM_CACHE_DIR": str(cache), name: value}, mark)
    yield lkm
    lkm.run("down", "--all")
    for process in lkm.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came: {seen}")


def qemu_runs(lkm: Marked) -> bool:
    return any("qemu-system" in line for line in lkm.alive())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def frozen() -> dict[Clock, Path]:
    """The frozen machines of this computer's own store."""
    kernel = store.get()
    configs = {clock: accel.machine_config(kernel, clock=clock) for clock in Clock}
    return {clock: snapshot.prepare(kernel, config).path for clock, config in configs.items()}


@pytest.fixture
def warm(marked: Marked, frozen: dict[Clock, Path]) -> Marked:
    """The same with a copy of the frozen machine that `lkm run` restores: to boot it takes 12 s."""
    marked.copy(frozen[Clock.VIRTUAL])
    return marked


@pytest.fixture
def warm_up(warm: Marked, frozen: dict[Clock, Path]) -> Marked:
    """And one of what `lkm up` restores."""
    warm.copy(frozen[Clock.REAL])
    return warm


def strike(lkm: Marked, process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send the signal to lkm alone, and see that all is gone and all still works."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT[number], output
    assert "Traceback" not in output
    assert lkm.alone_within(30) == []
    code, output = lkm.run("run", HELLO)
    assert code == 0, output
    assert "hello: ok" in output


SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])


@SIGNALS
def test_while_the_kernel_boots(marked: Marked, number: signal.Signals) -> None:
    process = marked.start("run", HELLO)
    wait_for_line(process, "booting")
    wait_until(lambda: qemu_runs(marked))
    strike(marked, process, number)


@SIGNALS
def test_while_make_runs(warm: Marked, tmp_path: Path, number: signal.Signals) -> None:
    source = tmp_path / "slow"
    source.mkdir()
    (source / "Makefile").write_text("obj-m := slow.o\n$(shell sleep 60)\n")
    (source / "slow.c").write_text('#include <linux/module.h>\nMODULE_LICENSE("GPL");\n')
    process = warm.start("run", str(source))
    wait_for_line(process, "building")
    wait_until(lambda: any("bwrap" in line for line in warm.alive()))
    strike(warm, process, number)
    assert not any("sleep 60" in line for line in warm.alive())


@SIGNALS
def test_while_a_module_hangs_in_init(warm: Marked, number: signal.Signals) -> None:
    assert warm.run("build", SPIN)[0] == 0
    process = warm.start("run", SPIN, "--timeout", "100")
    wait_until(lambda: qemu_runs(warm))
    time.sleep(0.5)
    strike(warm, process, number)


@SIGNALS
@pytest.mark.parametrize(
    "words", [("dmesg", "-w"), ("sh", "--", "cat", "/dev/zero")], ids=["dmesg", "sh"]
)
def test_a_session_that_ends_leaves_the_machine_usable(
    warm_up: Marked, words: tuple[str, ...], number: signal.Signals
) -> None:
    assert warm_up.run("up", "m")[0] == 0
    process = warm_up.start(*words)
    assert process.stdout is not None
    assert process.stdout.read(64)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == EXIT[number]
    for _ in range(3):
        code, output = warm_up.run("sh", "--", "echo", "here")
        assert (code, output) == (0, "here\n")
    assert warm_up.run("down", "m")[0] == 0
    assert warm_up.alone_within(30) == []


def test_two_runs_at_once_without_a_frozen_machine_boot_it_once(marked: Marked) -> None:
    processes = [marked.start("run", HELLO) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("freezing" in output for output in outputs) == 1
    assert any("waiting for another lkm" in output for output in outputs)
    assert marked.alone_within(30) == []


@pytest.mark.parametrize("damage", ["state", "ram", "meta.json"])
def test_a_damaged_snapshot_is_never_the_modules_fault(warm: Marked, damage: str) -> None:
    (home,) = (Path(warm.env["LKM_CACHE_DIR"]) / "snapshots").glob("[!.]*")
    (home / damage).write_bytes(b"")
    code, output = warm.run("run", HELLO, "--timeout", "5")
    assert code in (0, 5), output
    assert code == 0 or "hint: " in output
    assert warm.alone_within(30) == []


def test_a_qemu_that_is_killed_is_a_broken_machine_and_no_verdict(warm: Marked) -> None:
    assert warm.run("build", SPIN)[0] == 0
    process = warm.start("run", SPIN, "--timeout", "100")
    wait_until(lambda: qemu_runs(warm))
    time.sleep(0.5)
    for pid, line in warm.processes():
        if line.startswith("/usr/bin/qemu-system"):
            os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 5, output
    assert "spin: " not in output
