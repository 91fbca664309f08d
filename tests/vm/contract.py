"""What every machine keeps, whatever it is: functions that raise where it does not.

They are run on a guest from outside, and by this file as a program (`python3 contract.py NAME DIR`) on the
computer that it runs on. DIR holds the modules to load, as NAME.ko.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar

from lkm.end import End
from lkm.errors import HostError, StateError
from lkm.machine import LoadedModule, Machine, Needs, Outcome
from lkm.verdict import Stages, Verdict, judge

E = TypeVar("E", bound=BaseException)
Check = Callable[[Machine, Path], None]
CONTRACT: dict[str, Check] = {}
"""Every promise by its name."""


def promise(check: Check) -> Check:
    CONTRACT[check.__name__] = check
    return check


def same(found: object, expected: object) -> None:
    assert found == expected, f"{found!r} is not {expected!r}"


def said(outcome: Outcome) -> list[str]:
    """The log without the notes that every module from outside gets."""
    return [record.text for record in outcome.records if "taint" not in record.text]


def raised(kind: type[E], action: Callable[[], object]) -> E:
    """The error of that kind which the action raises."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def load(machine: Machine, directory: Path, name: str, arguments: str = "") -> Outcome:
    """Load a module that the kernel takes."""
    outcome = machine.load((directory / f"{name}.ko").read_bytes(), arguments)
    same((outcome.end, outcome.errno), (End.DONE, 0))
    return outcome


def found(machine: Machine, name: str) -> LoadedModule | None:
    return next((module for module in machine.modules() if module.name == name), None)


@promise
def a_load_and_an_unload_have_the_log_of_their_time(machine: Machine, directory: Path) -> None:
    loaded = load(machine, directory, "hello")
    same(said(loaded), ["hello: init"])
    assert found(machine, "hello")
    unloaded = machine.unload("hello")
    same((unloaded.end, unloaded.errno, said(unloaded)), (End.DONE, 0, ["hello: exit"]))
    assert not found(machine, "hello")
    numbers = [record.seq or 0 for record in (*loaded.records, *unloaded.records)]
    assert all(a < b for a, b in pairwise(numbers)), numbers
    same({record.level for record in unloaded.records}, {"info"})
    assert loaded.seconds > 0
    assert loaded.guest_seconds > 0
    same((loaded.lost, loaded.stacks, loaded.remains), (0, "", ""))


@promise
def arguments_reach_the_module_as_they_are(machine: Machine, directory: Path) -> None:
    outcome = load(machine, directory, "getargs", 'array=1,-2 file="a b" filepath=/ä')
    assert "getargs: => file\t= a b" in said(outcome), said(outcome)
    assert "getargs: => array\t= [ 1 -2 0 0 0 0 0 0]" in said(outcome), said(outcome)
    assert "getargs: => file2\t= /ä" in said(outcome), said(outcome)


@promise
def parameter_files_have_their_modes_and_values(machine: Machine, directory: Path) -> None:
    load(machine, directory, "params", "p_int=-7 p_bool=y")
    files = machine.parameters("params")
    same(list(files), sorted(files))
    same((files["p_int"].mode, files["p_int"].value), (0o644, "-7"))
    same((files["p_bool"].value, files["n_rootonly"].mode), ("Y", 0o600))
    assert files["n_rootonly"].value is not None
    path = "/sys/module/params/parameters/p_int"
    machine.write(path, b"12\n")
    same(machine.read(path), b"12\n")
    same(raised(OSError, lambda: machine.write(path, b"twelve\n")).errno, errno.EINVAL)
    same(machine.read(path), b"12\n")
    same(machine.parameters("nobody"), {})


@promise
def a_refusal_has_its_errno(machine: Machine, directory: Path) -> None:
    refused = machine.load((directory / "enodev.ko").read_bytes())
    same((refused.end, refused.errno), (End.DONE, errno.ENODEV))
    whole = (directory / "hello.ko").read_bytes()
    same(machine.load(whole[:1000]).errno, errno.ENOEXEC)
    same(machine.load(b"").errno, errno.ENOEXEC)
    load(machine, directory, "hello")
    same(machine.load(whole).errno, errno.EEXIST)
    unknown = machine.load((directory / "bell.ko").read_bytes())
    same(unknown.errno, errno.ENOENT)
    assert "bell: Unknown symbol clockwork_tick (err -2)" in said(unknown), said(unknown)
    same(machine.unload("nobody").errno, errno.ENOENT)


@promise
def a_module_that_is_held_stays(machine: Machine, directory: Path) -> None:
    load(machine, directory, "clockwork")
    load(machine, directory, "bell")
    clockwork = found(machine, "clockwork")
    assert clockwork
    same((clockwork.refcount, clockwork.used_by, clockwork.permanent), (1, ("bell",), False))
    same(machine.unload("clockwork").errno, errno.EWOULDBLOCK)
    load(machine, directory, "noexit")
    noexit = found(machine, "noexit")
    assert noexit
    assert noexit.permanent
    same(machine.unload("noexit").errno, errno.EBUSY)
    same(machine.unload("bell").errno, 0)
    same(machine.unload("clockwork").errno, 0)


@promise
def what_a_module_needs_is_loaded_once(machine: Machine, directory: Path) -> None:
    needs = Needs(others=(directory / "clockwork.ko",))
    machine.load_needs(needs)
    machine.load_needs(needs)
    same(said(load(machine, directory, "bell")), ["bell: 7 times"])


@promise
def a_need_that_is_refused_is_no_fault_of_the_module(machine: Machine, directory: Path) -> None:
    needs = Needs(others=(directory / "enodev.ko",))
    error = raised(HostError, lambda: machine.load_needs(needs))
    same(error.summary, "enodev.ko, which is needed, does not load: ENODEV")


@promise
def a_line_without_its_newline_is_in_the_log(machine: Machine, directory: Path) -> None:
    outcome = load(machine, directory, "nonewline")
    same(said(outcome)[-1], "nonewline: init without a newline")
    same(said(machine.unload("nonewline"))[-1], "nonewline: exit without a newline")


@promise
def what_the_log_lost_is_counted(machine: Machine, directory: Path) -> None:
    outcome = load(machine, directory, "flood")
    lines = [text for text in said(outcome) if text.startswith("flood: line ")]
    same(lines[-1], "flood: line 99999")
    notes = len(outcome.records) - len(lines)
    assert outcome.lost + len(lines) in (100_000, 100_000 + 2 - notes), (outcome.lost, len(lines))


@promise
def the_whole_log_begins_before_this_session(machine: Machine, directory: Path) -> None:
    whole = machine.log(whole=True)
    assert any(record.text.startswith("Linux version ") for record in whole), whole[:3]
    load(machine, directory, "hello")
    assert "hello: init" in [record.text for record in machine.log(whole=True)]
    assert not [record for record in machine.log() if record.text.startswith("hello")]


@promise
def the_log_can_be_followed(machine: Machine, directory: Path) -> None:
    machine.log()
    for text in (b"one\n", b"two\n"):
        machine.write("/dev/kmsg", text)
    same([record.text for record in islice(machine.follow(), 2)], ["one", "two"])


@promise
def files_fail_with_the_kernels_errno(machine: Machine, directory: Path) -> None:
    same(machine.read("/proc/sys/kernel/ostype"), b"Linux\n")
    listed = {name: kind for kind, name in machine.list_dir("/proc")}
    same((listed["modules"], listed["sys"], listed["self"]), ("-", "d", "l"))
    machine.write("/tmp/new", b"x" * 100_000, flags=os.O_WRONLY | os.O_CREAT, mode=0o600)
    same(len(machine.read("/tmp/new")), 100_000)
    for number, action in (
        (errno.ENOENT, lambda: machine.read("/nowhere")),
        (errno.EISDIR, lambda: machine.read("/proc")),
        (errno.ENOTDIR, lambda: machine.list_dir("/proc/modules")),
        (errno.ENOENT, lambda: machine.write("/proc/nowhere", b"x")),
    ):
        same(raised(OSError, action).errno, number)
    same(raised(OSError, lambda: machine.read("/nowhere")).filename, "/nowhere")


@promise
def a_warning_is_a_problem_of_a_load_that_went_well(machine: Machine, directory: Path) -> None:
    outcome = load(machine, directory, "warn")
    judged = judge("warn", Stages(outcome))
    same((judged.verdict, judged.problems[0].kind.value), (Verdict.PROBLEM, "WARNING"))


@promise
def an_oops_kills_the_caller_and_leaves_a_machine_that_answers(
    machine: Machine, directory: Path
) -> None:
    outcome = machine.load((directory / "oops_init.ko").read_bytes())
    same(outcome.end, End.KILLED)
    judged = judge("oops_init", Stages(outcome))
    same((judged.verdict, judged.problems[0].kind.value), (Verdict.PROBLEM, "oops"))
    assert found(machine, "oops_init")
    load(machine, directory, "hello")


@promise
def a_load_that_hangs_is_given_up_with_where_it_is(machine: Machine, directory: Path) -> None:
    outcome = machine.load((directory / "sleeper.ko").read_bytes(), timeout=3)
    same((outcome.end, outcome.seconds, said(outcome)), (End.HUNG, 3.0, ["sleeper: sleeping"]))
    assert "sleeper_init" in outcome.stacks, outcome.stacks
    judged = judge("sleeper", Stages(outcome))
    assert "sleeper_init [sleeper]" in (judged.reason or ""), judged.reason
    raised(StateError, lambda: machine.load(b""))


@promise
def a_closed_machine_says_so(machine: Machine, directory: Path) -> None:
    machine.ping()
    machine.close()
    machine.close()
    for action in (
        lambda: machine.load(b""),
        machine.modules,
        machine.ping,
        machine.log,
        lambda: machine.parameters("hello"),
    ):
        raised(StateError, action)


def main(name: str, directory: str) -> None:
    from lkm.host import HostMachine

    with HostMachine() as machine:
        CONTRACT[name](machine, Path(directory))
    print(f"kept: {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
