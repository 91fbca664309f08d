"""Machines that are forked off a QEMU that is linked already: the same as any other, and their ends too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lkm
from lkm.vm import forks
from lkm.vm.confine import Confined

pytestmark = pytest.mark.vm

HELLO = Path(__file__).parents[2] / "examples" / "hello"


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    """None before and none after, whatever else this process tests."""
    forks.close()
    yield
    forks.close()


def started(kernel: lkm.Kernel) -> None:
    """One machine, so that the next is not the first of this process."""
    with kernel.machine() as vm:
        vm.modules()


def forked(vm: lkm.VM) -> forks.Forked:
    process = vm.machine.link._process
    assert isinstance(process, forks.Forked)
    return process


def starts_as_ever(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        assert isinstance(vm.machine.link._process, Confined)
        vm.modules()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_second_machine_is_forked_off_and_loads_as_the_first_did() -> None:
    kernel = lkm.kernel()
    started(kernel)
    objects = lkm.build(HELLO, kernel)
    logs = []
    for _ in range(2):
        with kernel.machine() as vm:
            pid = forked(vm).pid
            assert "qemu-system" in Path(f"/proc/{parent_of(pid)}/comm").read_text()
            with vm.insmod(objects["hello"]) as module:
                pass
            logs.append([record.text for record in module.log])
    assert logs[0] == logs[1]
    assert any("hello" in text for text in logs[0])
    assert not Path(f"/proc/{pid}").exists()


def test_siblings_are_machines_of_their_own() -> None:
    kernel = lkm.kernel()
    started(kernel)
    with kernel.machine() as one, kernel.machine() as other:
        one.path("/tmp/x").write_text("1")
        assert not other.path("/tmp/x").exists()
        one.close()
        assert not other.path("/tmp/x").exists()


def test_how_one_ends_is_told_as_ever() -> None:
    kernel = lkm.kernel()
    started(kernel)
    with kernel.machine() as vm:
        process = forked(vm)
        os.kill(process.pid, signal.SIGSEGV)
        with pytest.raises(lkm.MachineError, match="ended by SIGSEGV"):
            vm.modules()
        assert process.wait(1) == -signal.SIGSEGV


def test_a_server_that_dies_takes_its_machines_along_and_no_others() -> None:
    kernel = lkm.kernel()
    started(kernel)
    with kernel.machine() as vm:
        process = forked(vm)
        os.kill(parent_of(process.pid), signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        with pytest.raises(lkm.MachineError):
            vm.modules()
    starts_as_ever(kernel)


def test_without_the_library_machines_start_as_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forks, "_library", lambda: tmp_path / "none.so")
    monkeypatch.setattr(forks, "make_library", lambda _: None)
    kernel = lkm.kernel()
    started(kernel)
    starts_as_ever(kernel)


def test_a_library_that_is_none_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"no ELF")
    monkeypatch.setattr(forks, "_library", lambda: bad)
    kernel = lkm.kernel()
    started(kernel)
    starts_as_ever(kernel)


KILLED = """
import os, signal, lkm
kernel = lkm.kernel()
kernel.machine().close()
vm = kernel.machine()
print(vm.machine.link.pid, flush=True)
END
"""


@pytest.mark.parametrize(
    "end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)"]
)
def test_nothing_outlives_the_process(end: str) -> None:
    code = KILLED.replace("END", end)
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_a_fork_of_this_process_does_not_end_its_machines() -> None:
    kernel = lkm.kernel()
    started(kernel)
    with kernel.machine() as vm:
        child = os.fork()
        if not child:
            try:
                forks.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        vm.modules()
        assert forked(vm).wait is not None
