"""What becomes of a test by what its kernel did: passed, failed, an error, and what the report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.vm

Written = Callable[..., Path]

CASES = {
    "a clean module": (
        "def test_it(insmod): insmod(EXAMPLES / 'hello')",
        {"passed": 1},
        [],
    ),
    "a WARNING that the test does not look at": (
        """
def test_it(vm, insmod):
    with pytest.raises(lkm.KernelProblem):
        insmod(MODULES / 'warn.c')
""",
        {"failed": 1},
        ["*kernel log*", "*warn: init", "*kernel problem*", "WARNING at *", "FAILED *KernelProblem: *"],
    ),
    "an oops while it is unloaded": (
        "def test_it(insmod): insmod(MODULES / 'oops_exit.c')",
        {"failed": 1},
        ["*oops: BUG: kernel NULL pointer dereference*", "in write_to_null*() of oops_exit"],
    ),
    "an oops that is expected, and comes": (
        "@pytest.mark.lkm(expect='oops')\ndef test_it(insmod): insmod(MODULES / 'oops_init.c')",
        {"passed": 1},
        [],
    ),
    "an oops that is expected while it is unloaded": (
        "@pytest.mark.lkm(expect='oops')\ndef test_it(insmod): insmod(MODULES / 'oops_exit.c')",
        {"passed": 1},
        [],
    ),
    "an oops that is expected, and does not come": (
        "@pytest.mark.lkm(expect='oops')\ndef test_it(insmod): insmod(EXAMPLES / 'hello')",
        {"failed": 1},
        ["*the kernel reported no oops, which the test expects*"],
    ),
    "an oops some time after it was unloaded": (
        "def test_it(insmod): insmod(MODULES / 'late.c', what='work')",
        {"failed": 1},
        ["*kernel problem*", "*late*"],
    ),
    "an oops some time after the test's own rmmod": (
        "def test_it(insmod, vm):\n    insmod(MODULES / 'late.c', what='kthread')\n    vm.rmmod('late')",
        {"failed": 1},
        ["*kernel problem*", "*late_kthread*"],
    ),
    "a name that is left behind": (
        "def test_it(insmod): insmod(MODULES / 'leaves.c', what='proc')",
        {"failed": 1},
        ["*kernel problem*", "left-behind: left /proc/leaves_proc behind", "lkm run *leaves.c*"],
    ),
    "a name that an init left which failed, after a program ran": (
        """
def test_it(vm, insmod):
    assert vm.run(["true"]).returncode == 0
    with pytest.raises(lkm.LoadError): insmod(MODULES / 'leaves.c', what='chrdev', fails=1)
""",
        {"failed": 1},
        ["left-behind: left the device number * (leaves_chrdev) behind"],
    ),
    "a name that is expected to be left, beside the kernel's own modules": (
        """
@pytest.mark.lkm(expect='left-behind', modules=['dummy'])
def test_it(insmod): insmod(MODULES / 'leaves.c', what='proc')
""",
        {"passed": 1},
        [],
    ),
    "names that the test has made": (
        """
@pytest.mark.lkm(modules=['dummy'])
def test_files(vm, insmod, tmp_path):
    insmod(MODULES / 'leaves.c')
    (tmp_path / "x").write_text("x")
    vm.put(tmp_path / "x", "/dev/leaves0")
    vm.path("/sys/fs/cgroup/x").mkdir() if vm.path("/sys/fs/cgroup/cgroup.procs").exists() else 0
def test_programs(vm, insmod):
    insmod(MODULES / 'leaves.c')
    vm.run(["sh", "-c", "mknod /dev/leaves0 c 240 0; mkdir /m; mount -t tmpfs none /m"]).check()
    vm.start(["sleep", "1000"])
def test_modules(vm, insmod):
    insmod(MODULES / 'leaves.c')
    vm.modprobe("dummy")
""",
        {"passed": 3},
        [],
    ),
    "a name that nobody looks for": (
        "@pytest.mark.lkm(settle=0)\ndef test_it(insmod): insmod(MODULES / 'leaves.c', what='proc')",
        {"passed": 1},
        [],
    ),
    "an oops that nobody waits for": (
        "@pytest.mark.lkm(settle=0)\ndef test_it(insmod): insmod(MODULES / 'late.c', what='work')",
        {"passed": 1},
        [],
    ),
    "a source that is not for the kernel": (
        """
def test_it(insmod):
    Path('m.c').write_text('not even C')
    Path('Kbuild').write_text('obj-m := m.o')
    Path('dkms.conf').write_text('''PACKAGE_NAME=m
PACKAGE_VERSION=1
BUILT_MODULE_NAME[0]=m
DEST_MODULE_LOCATION[0]=/extra
BUILD_EXCLUSIVE_KERNEL="^9[.]"
''')
    insmod()
""",
        {"skipped": 1},
        ["SKIPPED *test_it.py:*is not for 6.12.*"],
    ),
    "a panic where a WARNING is expected": (
        "@pytest.mark.lkm(expect=['WARNING'])\ndef test_it(insmod): insmod(MODULES / 'panics.c')",
        {"failed": 1},
        ["*Kernel panic - not syncing: panics: asked for*"],
    ),
    "a panic that is expected": (
        "@pytest.mark.lkm(expect='panic')\ndef test_it(insmod): insmod(MODULES / 'panics.c')",
        {"passed": 1},
        [],
    ),
    "a hang that is expected": (
        """
@pytest.mark.lkm(expect='dead', timeout=2)
def test_it(insmod):
    with pytest.raises(lkm.ModuleFailure): insmod(MODULES / 'sleeper.c')
""",
        {"passed": 1},
        [],
    ),
    "a module that does not go": (
        "def test_it(insmod): insmod(MODULES / 'noexit.c')",
        {"failed": 1},
        ["*rmmod 'noexit' failed: EBUSY*", "*it has no exit function*"],
    ),
    "a module that hangs on its way out": (
        "@pytest.mark.lkm(timeout=3)\ndef test_it(insmod): insmod(MODULES / 'hang_exit.c')",
        {"failed": 1},
        ["*hang_exit's exit did not return within 3 s*"],
    ),
    "a module that the kernel refuses": (
        "def test_it(insmod): insmod(MODULES / 'enodev.c')",
        {"failed": 1},
        [">*insmod(MODULES / 'enodev.c')", "E *insmod 'enodev.ko' failed: E*", "lkm run *enodev.c -k 6.12.*"],
    ),
    "a module that does not build": (
        "def test_it(insmod): insmod(MODULES / 'syntax_error.c')",
        {"failed": 1},
        ["*BuildError*", "*syntax_error.c:*: error: *"],
    ),
    "a failure in a fixture of the user": (
        """
@pytest.fixture
def loaded(insmod): return insmod(MODULES / 'enodev.c')
def test_it(loaded): pass
""",
        {"failed": 1},
        ["FAILED *LoadError: *"],
    ),
    "a failure when a fixture of the user ends": (
        """
@pytest.fixture
def loaded(vm):
    with vm.insmod(MODULES / 'noexit.c') as module: yield module
def test_it(loaded): pass
""",
        {"failed": 1},
        ["FAILED *UnloadError: *"],
    ),
    "a problem where failure is expected": (
        "@pytest.mark.xfail(strict=True)\ndef test_it(insmod): insmod(MODULES / 'oops_exit.c')",
        {"xfailed": 1},
        [],
    ),
    "an assertion beside a problem": (
        """
def test_it(vm, insmod):
    with pytest.raises(lkm.KernelProblem): insmod(MODULES / 'warn.c')
    assert 1 == 2
""",
        {"failed": 1},
        ["E *assert 1 == 2", "*kernel problem*", "pytest *test_it.py::test_it --lkm-kernel 6.12.*"],
    ),
    "a machine that breaks": (
        """
def test_it(vm, insmod):
    os.kill(vm.machine.link.pid, signal.SIGKILL)
    vm.run(['true'])
""",
        {"errors": 1},
        ["ERROR *MachineError: *"],
    ),
    "a machine that breaks where failure is expected": (
        """
@pytest.mark.xfail
def test_it(vm):
    os.kill(vm.machine.link.pid, signal.SIGKILL)
    vm.run(['true'])
""",
        {"errors": 1},
        ["ERROR *MachineError: *"],
    ),
    "a computer that cannot": (
        "def test_it(vm): raise lkm.HostError('no room')",
        {"errors": 1},
        ["ERROR *HostError: no room*"],
    ),
    "an errno of the guest": (
        "def test_it(vm): vm.path('/proc/none').read_text()",
        {"failed": 1},
        [">*read_text()", "E *FileNotFoundError: *'/proc/none'"],
    ),
    "a device whose driver was not loaded": (
        "def test_it(vm): vm.path('/dev/upper').write_text('x')",
        {"failed": 1},
        ["E *FileNotFoundError: *'/dev/upper'"],
    ),
    "a mistake in the test": (
        "def test_it(insmod): insmod(EXAMPLES / 'getargs', intparm=1)",
        {"failed": 1},
        ["*UsageError: *intparm*"],
    ),
    "a closed machine that is used again": (
        "def test_it(vm):\n    vm.close()\n    vm.modules()",
        {"failed": 1},
        ["*StateError: the machine is closed, and this needs it to be running"],
    ),
    "a program that hangs in the guest": (
        "def test_it(vm): vm.run(['sleep', '1000'], timeout=1)",
        {"failed": 1},
        ["*CommandError: *sleep 1000*"],
    ),
    "a machine that panics under an open file": (
        """
@pytest.mark.lkm(timeout=10)
def test_it(vm):
    with vm.open('/proc/sysrq-trigger', 'wb', buffering=0) as file:
        file.write(b'c')
""",
        {"failed": 1},
        ["*Kernel panic - not syncing: *", "*kernel problem*", "panic: *"],
    ),
    "a program that prints without end": (
        """
def test_it(vm):
    with vm.start(['dd', 'if=/dev/zero', 'bs=1M', 'count=1024']) as loud:
        loud.wait(timeout=60)
""",
        {"failed": 1},
        ["*UsageError: 'dd *' printed more than 64 MiB, and was killed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_test_is_judged_by_what_its_kernel_did(
    pytester: pytest.Pytester, written: Written, case: str
) -> None:
    text, outcomes, lines = CASES[case]
    written(text)
    result = pytester.runpytest_inprocess("-rA")
    result.assert_outcomes(**outcomes)
    for line in lines:
        result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*src/lkm/*")
