"""The plugin among pytest's own ways: xdist, --lf, -x, -k, JUnit, --pdb; and no QEMU is left behind."""

from __future__ import annotations

import fnmatch
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.vm

Written = Callable[..., Path]

ONE_OF_THREE_FAILS = """
def test_one(insmod): insmod(EXAMPLES / 'hello')
def test_two(insmod): insmod(MODULES / 'oops_exit.c')
def test_three(insmod): insmod(EXAMPLES / 'hello')
"""


def qemus_of(pid: int) -> list[int]:
    """The processes of QEMU that a process has started, below those of bwrap."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(number) for task in tasks for number in task.read_text().split()]
    below = [each for child in children for each in qemus_of(child)]
    return below + [each for each in children if "qemu" in Path(f"/proc/{each}/comm").read_text()]


def test_last_failed_knows_what_the_kernel_failed(
    pytester: pytest.Pytester, written: Written
) -> None:
    written(ONE_OF_THREE_FAILS)
    before = qemus_of(os.getpid())
    pytester.runpytest_inprocess("-x").assert_outcomes(passed=1, failed=1)
    result = pytester.runpytest_inprocess("--lf", "-v")
    result.assert_outcomes(failed=1)
    pytester.runpytest_inprocess("-k", "three").assert_outcomes(passed=1, deselected=2)
    assert qemus_of(os.getpid()) == before


def test_workers_of_xdist_report_the_same(pytester: pytest.Pytester, written: Written) -> None:
    written(ONE_OF_THREE_FAILS + "\ndef test_four(vm): raise lkm.HostError('no room')")
    result = pytester.runpytest_subprocess("-n", "2")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*kernel log*", "*kernel problem*", "*reproduce*"])
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_two - *KernelProblem: BUG: *"])
    assert str(result.stdout).count("end trace") == 1


@pytest.mark.parametrize("workers", ["0", "2"])
def test_junit_has_what_the_kernel_did(
    pytester: pytest.Pytester, written: Written, workers: str
) -> None:
    written(ONE_OF_THREE_FAILS + "\ndef test_four(vm): raise lkm.HostError('no room')")
    pytester.runpytest_subprocess("--junitxml=out.xml", "-n", workers)
    suite = ET.parse(pytester.path / "out.xml").getroot()[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "4", "failures": "1", "errors": "1",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    properties = {p.get("name"): p.get("value") or "" for p in cases["test_two"].iter("property")}
    assert properties["lkm_kernel"].startswith("6.12.")
    assert properties["lkm_problem"].startswith("oops: BUG: ")
    assert "oops_exit: init" in properties["lkm_log"]
    assert cases["test_two"].find("failure") is not None
    sections = "".join(each.text or "" for each in cases["test_two"].iter("system-out"))
    assert re.search(r"(?s)-- kernel log --+\n.*oops_exit: init", sections)
    assert re.search(r"-- kernel problem --+\noops: BUG: .*\nin write_to_null", sections)
    assert re.search(r"-- reproduce --+\nlkm run .*oops_exit.c", sections)
    assert cases["test_one"].find("system-out") is None
    assert cases["test_four"].find("error") is not None
    assert [p.get("name") for p in cases["test_one"].iter("property")] == ["lkm_kernel"]


@pytest.fixture
def asleep(written: Written, pytester: pytest.Pytester) -> Iterator[subprocess.Popen[str]]:
    """A pytest that waits in a test, having said so."""
    written("""
def test_it(vm):
    print("at it", flush=True)
    vm.run(["sleep", "1000"], timeout=1000)
""")
    argv = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if "at it" in line:
                break
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_qemu_outlives_a_pytest_that_is_ended(
    asleep: subprocess.Popen[str], number: signal.Signals
) -> None:
    deadline = time.monotonic() + 30
    while not (qemus := qemus_of(asleep.pid)):
        assert time.monotonic() < deadline
    handles = [os.pidfd_open(pid) for pid in qemus]
    asleep.send_signal(number)
    asleep.communicate(timeout=60)
    for handle in handles:
        has_ended = select.poll()
        has_ended.register(handle, select.POLLIN)
        assert has_ended.poll(60_000)
        os.close(handle)


HANGS = """
def test_it(vm):
    Path("pid").write_text(str(vm.machine.link.pid))
    vm.run(["sh", "-c", "read x < /dev/console"], timeout=1000)
def test_next(vm): assert vm.run(["true"]).returncode == 0
"""


@pytest.mark.parametrize(
    ("method", "outcome"), [("signal", "*1 failed, 1 passed*"), ("thread", "*+ Timeout +*")]
)
def test_a_test_that_hangs_in_the_guest_is_ended_by_pytest_timeout(
    pytester: pytest.Pytester, written: Written, method: str, outcome: str
) -> None:
    written(HANGS)
    words = ["--timeout=5", f"--timeout-method={method}", "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    told = done.stdout + done.stderr
    assert fnmatch.fnmatch(told, outcome), told
    assert done.returncode == 1
    assert "Timeout" in told
    gone = has_gone(int(Path("pid").read_text()))
    assert gone, "QEMU is still there"


def has_gone(pid: int) -> bool:
    """Whether a process ends within a minute."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle, closefd=True) as file:
        ends = select.poll()
        ends.register(file, select.POLLIN)
        return bool(ends.poll(60_000))


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short private directory for sockets (sun_path holds 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="lkm-", dir="/tmp") as path:
        monkeypatch.setenv("LKM_RUNTIME_DIR", path)
        yield Path(path)


IN_PDB = """
import subprocess, sys
argv = [sys.executable, "-m", "lkm", "ps"]
print(subprocess.run(argv, capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize("last", ["c", "q"])
def test_a_twin_of_the_machine_can_be_entered_while_one_is_in_pdb(
    written: Written, runtime: Path, last: str
) -> None:
    written("def test_it(vm): assert False")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pdb"],
        input=f"exec({IN_PDB!r})\n{last}\n",
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    name = re.search(r"lkm sh -m (pytest-\d+-1)", done.stdout)
    assert name, done.stdout
    assert done.stdout.count(name[1]) == 2, "lkm ps, typed in pdb, shows it too"
    assert not list(runtime.rglob(name[1]))
