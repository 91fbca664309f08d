"""Where a module can leave something, and how what it left is told."""

from __future__ import annotations

import pytest

from lkm.machine import Area, Left
from lkm.problems import ProblemKind
from lkm.remains import areas, made_by_modules, problems


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        (("_printk", "__fentry__", "__x86_return_thunk", "param_ops_int"), Area(0)),
        (
            ("kmalloc_trace", "__kmalloc_noprof", "kfree", "memcpy", "_raw_spin_lock_irqsave"),
            Area(0),
        ),
        (("_printk", "proc_create", "seq_printf", "single_open"), Area.PROC),
        (("kthread_create_on_node", "wake_up_process", "kthread_stop"), Area.THREADS),
        (("misc_register", "misc_deregister"), Area.MISC),
        (("hrtimer_start_range_ns", "hrtimer_cancel"), Area.TIMERS),
        (("alloc_netdev_mqs", "register_netdev", "ether_setup"), Area.NET),
        (("kmem_cache_create", "kmem_cache_alloc_noprof"), Area.CACHES),
        (("__kmem_cache_create_args",), Area.CACHES),
        (("debugfs_create_dir", "proc_mkdir"), Area.SYSFS | Area.PROC),
        (("_printk", "register_sysctl_sz"), Area.ALL & ~Area.CACHES),
        (("_printk", "somebody_elses_function"), Area.ALL & ~Area.CACHES),
        (("_printk", "somebody_elses_function", "kmem_cache_create"), Area.ALL),
        (("proto_register", "proto_unregister"), Area.ALL),
    ],
)
def test_imports_say_where_to_look_and_an_unknown_one_means_nearly_everywhere(
    imports: tuple[str, ...], expected: Area
) -> None:
    assert areas(imports) == expected


def test_a_pending_timer_has_the_address_that_it_will_call() -> None:
    (problem,) = problems([Left("hrtimer", "0xffffffffc0201056")], 7)
    assert problem.address == 0xFFFFFFFFC0201056
    (hidden,) = problems([Left("hrtimer", "<000000001b2c3d4e>")], 7)
    assert (hidden.address, hidden.trace) == (None, ())


def told(*left: Left) -> list[str]:
    return [problem.summary for problem in problems(left, 7)]


@pytest.mark.parametrize(
    ("left", "summary"),
    [
        (Left("path", "/proc/foo"), "left /proc/foo behind"),
        (Left("path", "/proc/1/net/foo"), "left /proc/net/foo behind"),
        (Left("path", "/sys/kernel/slab/foo"), "left the slab cache foo behind"),
        (Left("path", "/sys/class/net/foo0"), "left the network device foo0 behind"),
        (Left("path", "/sys/module/crc16"), "left the module crc16 behind"),
        (Left("device", "240 foo"), "left the device number 240 (foo) behind"),
        (Left("device", "259 foo", "block"), "left the block device number 259 (foo) behind"),
        (Left("interrupt", "25 foo"), "left the handler of interrupt 25 (foo) behind"),
        (Left("kthread", "foo 133"), "left the kthread foo (pid 133) behind"),
        (Left("module", "crc16 1"), "left the module crc16 with a reference count of 1 behind"),
        (Left("crypto", "foo-generic"), "left the crypto algorithm foo-generic behind"),
        (Left("mount", "none /mnt/foo tmpfs rw 0 0"), "left the mount /mnt/foo behind"),
        (
            Left("hrtimer", "0xffffffffc0201056"),
            "left a pending hrtimer whose function is gone behind",
        ),
        (
            Left("hrtimer", "<000000001b2c3d4e>"),
            "left a pending hrtimer whose function is gone behind",
        ),
        (Left("mount", ""), "left the mount  behind"),
    ],
)
def test_what_is_left_is_named_as_a_user_knows_it(left: Left, summary: str) -> None:
    assert told(left) == [summary]


def test_one_thing_is_one_problem_whatever_shows_it() -> None:
    misc = [
        Left("path", "/sys/class/misc/foo"),
        Left("path", "/dev/foo"),
        Left("misc", "59 foo"),
        Left("path", "/proc/bar"),
    ]
    assert told(*misc) == [
        "left /dev/foo behind (also /sys/class/misc/foo, the misc device number 59 (foo))",
        "left /proc/bar behind",
    ]
    many = [Left("path", f"/proc/sys/{place}/foo0") for place in range(9)]
    assert told(*many)[0].endswith(", 5 more)")


def test_a_cache_that_slub_named_by_its_properties_is_told_once() -> None:
    left = [
        Left("path", "/sys/kernel/slab/:a-0000840"),
        Left("path", "/sys/kernel/slab/foo", ":a-0000840"),
    ]
    assert told(*left) == ["left the slab cache foo behind"]


def test_the_link_that_slub_forgets_of_a_cache_that_has_gone_is_nothing() -> None:
    assert told(Left("path", "/sys/kernel/slab/foo", ":a-0000840")) == []


def test_what_the_kernel_makes_once_for_whoever_comes_first_is_nobodys() -> None:
    cache = Left("path", "/sys/kernel/slab/scsi_sense_cache", ":A-0000128")
    assert told(cache, Left("path", "/sys/kernel/slab/:A-0000128")) == []


def test_a_thread_that_was_left_has_its_stack_and_the_modules_frame() -> None:
    stack = "[<0>] msleep+0x2b/0x40\n[<0>] 0xffffffffc0201056\n[<0>] kthread+0xd2/0x100\n"
    (problem,) = problems([Left("kthread", "foo 133", stack)], 7)
    assert problem.kind is ProblemKind.LEFT_BEHIND
    assert [frame.function for frame in problem.trace] == ["msleep", None, "kthread"]
    assert problem.address == 0xFFFFFFFFC0201056
    assert problem.records == (7, 7)


def test_the_same_name_that_two_looks_found_is_told_once() -> None:
    device = Left("path", "/sys/class/net/foo0")
    assert told(device, device) == ["left the network device foo0 behind"]


# Of tests/data/modules/leaves.c with what=kthread on 6.12; and of kthreadd.
GONE_CODE = "[<0>] msleep+0x2b/0x40\n"
THERE = (
    "[<0>] kthreadd+0x2d3/0x2f0\n[<0>] ret_from_fork+0x34/0x50\n[<0>] ret_from_fork_asm+0x1a/0x30\n"
)


@pytest.mark.parametrize(
    ("left", "alone", "with_programs"),
    [
        ([Left("path", "/proc/foo")], True, True),
        ([Left("path", "/sys/kernel/foo")], True, True),
        ([Left("device", "240 foo"), Left("path", "/dev/foo")], True, True),
        ([Left("path", "/dev/foo")], False, False),
        ([Left("path", "/dev/a"), Left("path", "/dev/a/foo")], False, False),
        ([Left("path", "/sys/class/net/foo0")], True, False),
        ([Left("path", "/sys/kernel/debug/foo")], True, False),
        ([Left("interrupt", "3 ttyS1")], True, False),
        ([Left("packet", "ALL  packet_rcv")], True, False),
        ([Left("kthread", "foo 9", GONE_CODE)], True, True),
        ([Left("kthread", "loop0 9", THERE)], True, False),
        ([Left("kthread", "busy 9")], True, False),
        ([Left("hrtimer", "0xffffffffc0201056")], True, True),
        ([Left("path", "/sys/fs/cgroup/foo")], False, False),
        ([Left("module", "loop 1")], False, False),
        ([Left("mount", "none /sys/foo fs rw 0 0"), Left("path", "/sys/foo/x")], False, False),
        ([Left("mount", "")], False, False),
        ([Left("path", "/sys/module/loop"), Left("path", "/proc/foo")], False, False),
    ],
)
def test_what_a_test_can_have_made_is_not_held_against_its_module(
    left: list[Left], alone: bool, with_programs: bool
) -> None:
    assert bool(made_by_modules(left, with_programs=False)) is alone
    assert bool(made_by_modules(left, with_programs=True)) is with_programs
