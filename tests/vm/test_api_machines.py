"""Machines from Python: the log, copies, threads, and what goes wrong in a module under test."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

import lkm

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
STUCK = ROOT / "tests" / "data" / "api_modules"


@pytest.fixture(scope="module")
def kernel() -> lkm.Kernel:
    return lkm.kernel()


def say(vm: lkm.VM, text: str) -> None:
    vm.path("/dev/kmsg").write_text(text)


def test_the_log_is_a_sequence_of_records(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        say(vm, "<4>one: first\n")
        say(vm, "two: second\n")
        mark = vm.log.mark()
        say(vm, "one: third\n")
        assert [record.text for record in vm.log] == ["one: first", "two: second", "one: third"]
        assert (vm.log[0].level, len(vm.log), vm.log[-1].text) == ("warning", 3, "one: third")
        assert [record.text for record in vm.log[1:]] == ["two: second", "one: third"]
        assert [record.text for record in mark] == ["one: third"]
        assert vm.log.of("one").text == "one: first\none: third"
        assert mark.of("two").text == ""
        assert "sec" in vm.log
        assert "sec" not in mark
        assert vm.log[1] in vm.log
        assert re.search(r"\] two: second$", str(vm.log), re.MULTILINE)
        found = vm.log.search(r"(\w+): th")
        assert found
        assert found[1] == "one"
        assert vm.log.search("fourth") is None


def test_the_log_of_a_module_is_marked_where_the_kernel_is(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        for text in ("one: first\n", "two: second\n", "two: third\n", "one: fourth\n"):
            say(vm, text)
        mark = vm.log.of("one").mark()
        ended = vm.log.of("two")
        ended.end()
        say(vm, "one: later\n")
        say(vm, "two: later\n")
        assert mark.text == "one: later"
        assert ended.text == "two: second\ntwo: third"


def test_the_log_can_be_waited_for(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm, ThreadPoolExecutor() as pool:
        waiting = pool.submit(vm.log.wait_for, r"answer (\d+)", 20)
        say(vm, "nothing of interest\n")
        say(vm, "the answer 42\n")
        assert waiting.result()[1] == "42"
        with pytest.raises(lkm.ModuleFailure, match=r"no 'never' in the log after 0\.2 s") as late:
            vm.log.wait_for("never", timeout=0.2)
        assert late.value.evidence[-1] == "the answer 42"
        say(vm, "later\n")
        assert vm.log.wait_for("later")


def test_what_to_do_about_a_module_that_is_there_is_said_in_python(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        hello = vm.insmod(EXAMPLES / "hello")
        with pytest.raises(lkm.LoadError, match="EEXIST") as twice:
            vm.insmod(EXAMPLES / "hello")
        assert twice.value.hint == (
            'it is loaded already: vm.rmmod("hello") first, or use the one that is there'
        )
        hello.rmmod()
        with pytest.raises(lkm.UnloadError) as gone:
            hello.rmmod()
        assert gone.value.hint == "it is not loaded: vm.modules()"


def test_a_module_has_the_log_of_its_time(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        say(vm, "before\n")
        with vm.insmod(EXAMPLES / "hello") as hello:
            say(vm, "meanwhile\n")
        say(vm, "after\n")
        texts = [record.text for record in hello.log]
        assert texts[-3:] == ["hello: init", "meanwhile", "hello: exit"]
        assert "before" not in texts


def test_modules_of_the_kernel_are_loaded_with_what_they_need(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        assert vm.modprobe("msdos").name == "msdos"
        assert [module.name for module in vm.modules()][:2] == ["msdos", "fat"]
        vm.rmmod("msdos")
        assert vm.modules()[0].name == "fat"
        with pytest.raises(lkm.UsageError, match="no_such_module"):
            vm.modprobe("no_such_module")
        with pytest.raises(lkm.UsageError, match="ext4 is built into"):
            vm.modprobe("ext4")


def test_a_snapshot_is_restored_as_often_as_wanted(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        vm.insmod(EXAMPLES / "params", p_int=5)
        vm.path("/tmp/state").write_text("prepared")
        with vm.snapshot() as taken:
            vm.path("/tmp/state").write_text("changed since")
            for number in range(3):
                with taken.machine() as copy:
                    assert copy.path("/tmp/state").read_text() == "prepared"
                    parameter = copy.path("/sys/module/params/parameters/p_int")
                    assert parameter.read_text() == "5\n"
                    parameter.write_text(str(number))
                    copy.path("/tmp/state").write_text("its own")
                    assert "params: init" in copy.log
            kept = taken.machine()
        with kept:
            assert kept.path("/tmp/state").read_text() == "prepared"
            kept.rmmod("params")
        assert vm.path("/tmp/state").read_text() == "changed since"
        with pytest.raises(lkm.StateError, match="the snapshot is closed"):
            taken.machine()


def test_a_fork_goes_on_where_the_machine_is(kernel: lkm.Kernel) -> None:
    script = "i=0; while read x; do i=$((i+1)); echo $i > /tmp/count; echo $i; done"
    with kernel.machine() as vm, vm.start(["sh", "-c", script]) as program:
        program.stdin.write(b"\n")
        assert program.stdout.readline() == b"1\n"
        with vm.fork() as copy:
            assert copy.path(f"/proc/{program.pid}").exists()
            assert copy.path("/tmp/count").read_text() == "1\n"
            program.stdin.write(b"\n")
            assert program.stdout.readline() == b"2\n"
            assert vm.path("/tmp/count").read_text() == "2\n"
            assert copy.path("/tmp/count").read_text() == "1\n"
            assert copy.run(["echo", "new"]).text == "new\n"
            with copy.fork() as second:
                assert second.path("/tmp/count").read_text() == "1\n"


def a_machine_of_its_own(number: int) -> str:
    with lkm.kernel().machine() as vm:
        with vm.insmod(EXAMPLES / "params", p_int=number) as module:
            vm.path("/tmp/x").write_text(module.params["p_int"].text)
        return vm.run(["cat", "/tmp/x"]).text


def test_four_machines_at_once_from_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(a_machine_of_its_own, range(4))) == ["0", "1", "2", "3"]


def test_four_machines_at_once_from_processes() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=spawn) as pool:
        assert list(pool.map(a_machine_of_its_own, range(4))) == ["0", "1", "2", "3"]


def test_a_closed_machine_says_so(kernel: lkm.Kernel) -> None:
    vm = kernel.machine()
    file = vm.open("/proc/version", "rb", buffering=0)
    program = vm.start(["sleep", "1000000"])
    vm.close()
    vm.close()
    assert not vm.is_running
    actions: list[Callable[[], object]] = [
        lambda: vm.run(["true"]),
        lambda: vm.open("/proc/version"),
        lambda: vm.insmod(EXAMPLES / "hello"),
        vm.path("/proc").exists,
        vm.modules,
        vm.snapshot,
        lambda: file.read(1),
    ]
    for action in actions:
        with pytest.raises(lkm.StateError, match="the machine is closed") as refused:
            action()
        assert refused.value.state == "closed"
    file.close()
    program.close()
    assert list(vm.log) == []


@pytest.mark.parametrize("release", [None, "5.10"], ids=["default", "5.10"])
def test_a_read_that_never_returns_is_the_modules_failure(release: str | None) -> None:
    with lkm.kernel(release).machine() as vm:
        vm.insmod(STUCK)
        with vm.open("/dev/stuck", "rb", buffering=0, timeout=0.5) as dev:
            # Its own words, or the kernel's about a hung task: the guest's clock jumps while it idles.
            with pytest.raises(lkm.ModuleFailure, match=r"has not returned|blocked for") as hung:
                dev.read(1)
            assert any("stuck_read" in line for line in hung.value.evidence)
            with pytest.raises(lkm.ModuleFailure):
                dev.read(1)
        assert "stuck: read" in vm.log
        assert vm.run(["echo", "alive"]).text == "alive\n"


def test_a_hang_leaves_others_alone(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        vm.insmod(STUCK)
        dev = vm.open("/dev/stuck", "rb", buffering=0)
        ended = threading.Event()

        def read() -> None:
            with pytest.raises(lkm.StateError, match="the machine is closed"):
                dev.read(1)
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        vm.log.wait_for("stuck: read", timeout=20)
        for _ in range(10):
            assert vm.run(["echo", "alive"]).text == "alive\n"
        assert not ended.is_set()
        vm.close()
        reader.join(20)
        assert ended.is_set()


def test_a_program_that_is_waited_for_when_its_machine_is_closed(kernel: lkm.Kernel) -> None:
    vm = kernel.machine()
    with ThreadPoolExecutor() as pool:
        program = vm.start(["sh", "-c", "echo ready; read x"])
        assert program.stdout.readline() == b"ready\n"
        waiting: list[Future[object]] = [
            pool.submit(program.wait),
            pool.submit(vm.log.wait_for, "never"),
            pool.submit(vm.path("/dev/console").read_bytes),
        ]
        vm.close()
        for each in waiting:
            with pytest.raises(lkm.StateError, match="the machine is closed"):
                each.result(20)


@pytest.mark.parametrize("release", [None, "5.10"], ids=["default", "5.10"])
def test_an_oops_in_a_write_is_a_kernel_problem(release: str | None) -> None:
    with lkm.kernel(release).machine() as vm:
        vm.insmod(STUCK)
        dev = vm.open("/dev/stuck", "r+b", buffering=0)
        with pytest.raises(lkm.KernelProblem, match="NULL pointer dereference") as oops:
            dev.write(b"x")
        assert "stuck_write" in str(oops.value.problem)
        dev.close()
        assert [problem.kind for problem in vm.problems] == [oops.value.problem.kind]


def test_a_panic_under_an_open_file_ends_the_machine(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        vm.insmod(STUCK)
        dev = vm.open("/dev/stuck", "r+b", buffering=0)
        with pytest.raises(lkm.KernelProblem, match="stuck: ioctl 7"):
            dev.ioctl(7)
        assert any("Kernel panic" in record.text for record in vm.log)
        assert [str(problem) for problem in vm.problems]
        with pytest.raises(lkm.StateError) as dead:
            vm.run(["true"])
        assert dead.value.state == "dead"
        dev.close()


def test_a_mapping_without_pages_is_the_modules_failure(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        vm.insmod(STUCK)
        dev = vm.open("/dev/stuck", "r+b", buffering=0)
        memory = dev.mmap(4096)
        with pytest.raises(lkm.ModuleFailure, match="SIGBUS"):
            memory.write(b"x")
        assert vm.run(["echo", "alive"]).text == "alive\n"


def test_a_module_may_be_unloaded_by_its_name_in_its_block(kernel: lkm.Kernel) -> None:
    module = lkm.build(ROOT / "examples" / "hello", kernel)["hello"]
    with kernel.machine() as vm, vm.insmod(module):
        vm.rmmod("hello")
        assert vm.modules() == []


def test_a_hung_init_is_told_by_where_it_is(kernel: lkm.Kernel, tmp_path: Path) -> None:
    (tmp_path / "spin.c").write_text(SPIN)
    with kernel.machine(timeout=3) as vm, pytest.raises(lkm.ModuleFailure) as caught:
        vm.insmod(tmp_path / "spin.c")
    assert "spin's init" in caught.value.summary
    assert "NMI" not in caught.value.summary


def test_a_file_that_is_put_again_has_the_mode_of_the_new_one(
    kernel: lkm.Kernel, tmp_path: Path
) -> None:
    with kernel.machine() as vm:
        for mode in (0o600, 0o777):
            (tmp_path / "file").write_text("x")
            (tmp_path / "file").chmod(mode)
            assert vm.put(tmp_path / "file", "/root").stat().st_mode & 0o7777 == mode


SPIN = """\
#include <linux/module.h>
static int __init spin_init(void)
{
	for (;;)
		cpu_relax();
	return 0;
}
module_init(spin_init);
MODULE_LICENSE("GPL");
"""


LATE = ROOT / "tests" / "data" / "modules" / "late.c"


def freed_code(vm: lkm.VM) -> lkm.Problem:
    """The first problem that the kernel reports within two seconds of the guest's time."""
    vm.run(["sleep", "2"])
    return vm.problems[0]


def test_code_that_is_gone_gets_its_name_whatever_was_loaded_and_unloaded_before(
    kernel: lkm.Kernel,
) -> None:
    with kernel.machine() as vm:
        with vm.insmod(EXAMPLES / "hello"):
            pass
        vm.insmod(EXAMPLES / "params")
        with pytest.raises(lkm.LoadError, match="ENODEV"):
            vm.insmod(LATE, result=-19)
        vm.insmod(LATE, what="kthread", ms=700)
        with vm.fork() as other:
            for each in (vm, other):
                each.rmmod("late")
                problem = freed_code(each)
                assert problem.function == "late_kthread", problem
                assert problem.source
                assert problem.source.lines[2].strip() == "fired++;"


def test_where_a_module_was_that_moved_unseen_nothing_is_told(
    kernel: lkm.Kernel, tmp_path: Path
) -> None:
    with kernel.machine() as vm:
        hello = lkm.build(EXAMPLES / "hello", kernel)["hello"]
        vm.put(hello.path, "/hello.ko")
        vm.run(["busybox", "insmod", "/hello.ko"]).check()
        vm.insmod(LATE, what="kthread", ms=700)
        vm.insmod(EXAMPLES / "params")
        vm.rmmod("late")
        problem = freed_code(vm)
        assert problem.address
        assert problem.function is None


def test_a_module_that_is_in_use_is_told_with_who_has_its_device_open(kernel: lkm.Kernel) -> None:
    with kernel.machine() as vm:
        vm.insmod(EXAMPLES / "chardev")
        with vm.start(["sh", "-c", "exec sleep 100 </dev/chardev"]) as user:
            while "sleep" not in vm.path(f"/proc/{user.pid}/comm").read_text():
                pass
            with pytest.raises(lkm.UnloadError) as refused:
                vm.rmmod("chardev")
        assert f"sleep (pid {user.pid}) has /dev/chardev open" in str(refused.value)
