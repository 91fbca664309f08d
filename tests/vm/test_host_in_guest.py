"""`lkm ... --host` on a computer whose kernel may be harmed: a guest with Debian, Python, kmod and lkm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.vm import host_guest
from tests.vm.host_guest import install_headers, lkm

from lkm import kbuild, source
from lkm.kernels import store
from lkm.ko import read_image
from lkm.vm.machine import Machine
from lkm.vm.process import Completed, run

pytestmark = pytest.mark.vm

AS_NOBODY = ("setpriv", "--reuid", "65534", "--clear-groups", "--")
WITHOUT_CAPABILITY = ("setpriv", "--bounding-set", "-sys_module", "--")
WARNING = "this computer's own kernel"


@pytest.fixture
def computer() -> Iterator[Machine]:
    with host_guest.restored() as machine:
        yield machine


def ko(name: str) -> str:
    return f"{host_guest.MODULES}/{name}.ko"


def only(done: Completed) -> dict[str, Any]:
    """The one module of a run's document."""
    (module,) = json.loads(done.stdout)["modules"]
    assert isinstance(module, dict)
    return module


def messages(module: dict[str, Any]) -> list[str]:
    return [r["text"] for r in module["log"] if "taint" not in r["text"]]


def errors(done: Completed) -> str:
    return done.stderr.decode()


def loaded(computer: Machine) -> set[str]:
    return {module.name for module in computer.modules()}


@pytest.mark.parametrize(
    ("headers", "name", "words", "expected"),
    [
        (False, "hello", (), ["hello: init", "hello: exit"]),
        (True, "mymodule", (), ["my_module: init", "mymodule_sub: called", "my_module: exit"]),
        (True, "params", ("p_int=-7",), ["params: init", "params: exit"]),
    ],
)
def test_run_loads_a_sample_and_leaves_nothing(
    computer: Machine, headers: bool, name: str, words: tuple[str, ...], expected: list[str]
) -> None:
    if headers:
        install_headers(computer)
    before = loaded(computer)
    done = lkm(computer, "run", "--host", "--json", ko(name), *words)
    assert done.returncode == 0, errors(done)
    module = only(done)
    assert (module["verdict"], messages(module)) == ("ok", expected)
    assert module["taint"] == {"before": "", "after": "OE"}
    assert module["params"].get("p_int") == ("-7" if words else None)
    assert errors(done).count(WARNING) == 1
    assert "taint of this computer: none before, OE after" in errors(done)
    assert ("cannot be checked" in errors(done)) is not headers
    assert "still loaded" not in errors(done)
    assert loaded(computer) == before


def test_the_document_is_that_of_a_guest(computer: Machine, lkm_here: Callable[..., Any]) -> None:
    ours = json.loads(lkm(computer, "run", "--host", "--json", ko("params")).stdout)
    theirs = json.loads(lkm_here("run", "--json", str(host_guest.ROOT / "examples/params")).stdout)
    assert ours.keys() == theirs.keys()
    assert (ours["kernel"], ours["arch"]) == (theirs["kernel"], theirs["arch"])
    (mine,), (other,) = ours["modules"], theirs["modules"]
    assert mine.keys() == other.keys()
    same = ("name", "verdict", "reason", "errno", "params", "log_lost", "problems")
    assert [mine[key] for key in same] == [other[key] for key in same]
    assert messages(mine) == messages(other)
    assert mine["timings"].keys() == other["timings"].keys()


@pytest.fixture
def lkm_here(lkm: Callable[..., Any]) -> Callable[..., Any]:
    """lkm on the computer that the tests run on."""
    return lkm


def test_the_verbs_follow_kmods_manner(computer: Machine) -> None:
    loading = lkm(computer, "insmod", "--host", ko("params"), "p_int=41")
    assert (loading.returncode, loading.stdout) == (0, b"")
    header, first, *_ = lkm(computer, "lsmod", "--host").stdout.decode().splitlines()
    assert header == "Module                  Size  Used by"
    assert first.split()[::2] == ["params", "0"]
    assert lkm(computer, "param", "--host", "params", "p_int").stdout == b"41\n"
    assert lkm(computer, "param", "--host", "params", "p_int", "42").stdout == b"42\n"
    refused = lkm(computer, "param", "--host", "params", "p_int", "x")
    assert refused.returncode == 2
    assert "see what it has: lkm param --host params" in errors(refused)
    unloading = lkm(computer, "rmmod", "--host", "params")
    assert (unloading.returncode, unloading.stdout) == (0, b"")
    assert lkm(computer, "dmesg", "--host").stdout.decode().endswith("params: exit\n")
    again = lkm(computer, "rmmod", "--host", "params")
    assert again.returncode == 1
    assert "it is not loaded: lkm lsmod --host" in errors(again)


def test_what_is_loaded_already_is_refused_by_the_kernel(computer: Machine) -> None:
    install_headers(computer)
    assert lkm(computer, "insmod", "--host", ko("hello")).returncode == 0
    again = lkm(computer, "insmod", "--host", ko("hello"))
    assert again.returncode == 1
    assert "insmod 'hello.ko' failed: EEXIST" in errors(again)
    assert "it is loaded already: lkm rmmod --host hello" in errors(again)


@pytest.mark.parametrize("headers", [False, True], ids=["without headers", "with headers"])
def test_what_a_module_needs_is_there_for_its_time(computer: Machine, headers: bool) -> None:
    if headers:
        install_headers(computer)
    done = lkm(computer, "run", "--host", "--json", ko("bell"))
    assert done.returncode == 0, errors(done)
    assert messages(only(done)) == ["bell: 7 times"]
    assert not {"bell", "clockwork"} & loaded(computer)


def test_the_kernels_own_modules_are_modprobes(computer: Machine) -> None:
    install_headers(computer)
    done = lkm(computer, "run", "--host", "--json", ko("needs_dep"))
    assert done.returncode == 0, errors(done)
    assert messages(only(done))[0].startswith("needs_dep: crc ")
    assert "still loaded, and not before: crc_itu_t; sudo lkm rmmod --host crc_itu_t" in errors(
        done
    )
    assert lkm(computer, "rmmod", "--host", "crc_itu_t").returncode == 0
    rule = b"install crc_itu_t echo the administrator forbids it >&2; false\n"
    run(computer, ["mkdir", "-p", "/etc/modprobe.d"]).check()
    run(computer, ["tee", "/etc/modprobe.d/no.conf"], stdin=rule).check()
    refused = lkm(computer, "insmod", "--host", ko("needs_dep"))
    assert refused.returncode == 3
    assert "the administrator forbids it" in errors(refused)
    assert "needs_dep" not in loaded(computer)


@pytest.mark.parametrize(
    ("name", "verdict", "errno", "left"),
    [
        ("enodev", "load-failed", "ENODEV", False),
        ("noexit", "unload-failed", "EBUSY", True),
        ("warn", "problem", None, False),
        ("oops_init", "problem", None, True),
        ("oops_exit", "problem", None, True),
    ],
)
def test_a_module_that_goes_wrong_gets_its_verdict_and_what_is_left_is_said(
    computer: Machine, name: str, verdict: str, errno: str | None, left: bool
) -> None:
    done = lkm(computer, "run", "--host", "--json", ko(name))
    assert done.returncode == 1
    module = only(done)
    assert (module["verdict"], module["errno"]) == (verdict, errno)
    assert (f"still loaded, and not before: {name}\n" in errors(done)) is left
    assert (name in loaded(computer)) is left
    died = name.startswith("oops")
    assert ("D" in module["taint"]["after"]) is died
    assert ("its kernel oopsed (taint D): save your work, then sudo reboot" in errors(done)) is died


def test_what_runs_in_freed_memory_gets_the_name_of_the_function_that_it_was(
    computer: Machine,
) -> None:
    words = ("what=kthread", "ms=500")
    done = lkm(computer, "run", "--host", "--json", "--settle", "2", ko("late"), *words)
    (problem, *_) = only(done)["problems"]
    assert (problem["kind"], problem["function"], problem["module"]) == (
        "oops",
        "late_kthread",
        "late",
    )


@pytest.mark.parametrize(("name", "verb"), [("sleeper", "init"), ("hang_exit", "exit")])
def test_a_module_that_hangs_does_not_hang_lkm(computer: Machine, name: str, verb: str) -> None:
    done = lkm(computer, "run", "--host", "--json", "--timeout", "3", ko(name))
    assert done.returncode == 1
    module = only(done)
    assert module["verdict"] == "hung"
    assert module["reason"].startswith(
        f"{name}'s {verb} did not return within 3 s; it is in {name}_"
    )
    assert "cannot be killed (state D), so reboot" in module["reason"]
    assert f"still loaded, and not before: {name}" in errors(done)


def test_an_interrupted_run_ends_at_once_and_says_what_is_left(computer: Machine) -> None:
    done = lkm(
        computer, "run", "--host", ko("sleeper"), under=("busybox", "timeout", "-s", "INT", "20")
    )
    assert done.returncode == 130
    assert "still loaded, and not before: sleeper\n" in errors(done)
    assert errors(done).endswith("interrupted\n")


def test_insmod_that_hangs_says_what_remains(computer: Machine) -> None:
    done = lkm(computer, "insmod", "--host", ko("sleeper"))
    assert done.returncode == 1
    assert "sleeper's init did not return within 30 s" in errors(done)
    assert "cannot be killed (state D), so reboot" in errors(done)
    assert lkm(computer, "lsmod", "--host").returncode == 0


@pytest.mark.parametrize(
    ("verb", "under"),
    [("insmod", AS_NOBODY), ("run", WITHOUT_CAPABILITY)],
    ids=["nobody", "container"],
)
def test_without_the_capability_nothing_is_tried(
    computer: Machine, verb: str, under: tuple[str, ...]
) -> None:
    done = lkm(computer, verb, "--host", ko("hello"), under=under)
    assert done.returncode == 3
    assert f"{verb} on this computer needs root" in errors(done)
    assert f"hint: sudo lkm {verb} --host" in errors(done)
    assert WARNING not in errors(done)


def test_what_only_looks_needs_no_root(computer: Machine) -> None:
    assert lkm(computer, "insmod", "--host", ko("params"), "p_int=5").returncode == 0
    assert b"params" in lkm(computer, "lsmod", "--host", under=AS_NOBODY).stdout
    assert lkm(computer, "param", "--host", "params", "p_int", under=AS_NOBODY).stdout == b"5\n"
    writing = lkm(computer, "param", "--host", "params", "p_int", "6", under=AS_NOBODY)
    assert writing.returncode == 3
    assert lkm(computer, "rmmod", "--host", "params", under=AS_NOBODY).returncode == 3
    run(computer, ["chmod", "600", "/dev/kmsg"]).check()
    log = lkm(computer, "dmesg", "--host", under=AS_NOBODY)
    assert log.returncode == 3
    assert "hint: sudo lkm dmesg --host" in errors(log)


def test_a_kernel_that_loads_no_more_says_so(computer: Machine) -> None:
    computer.write("/proc/sys/kernel/modules_disabled", b"1\n")
    done = lkm(computer, "insmod", "--host", ko("hello"))
    assert done.returncode == 3
    assert "loads and unloads no modules any more" in errors(done)
    assert "sudo reboot" in errors(done)


@pytest.fixture(scope="module")
def foreign() -> bytes:
    """hello, built for another kernel."""
    build = kbuild.build(source.find(host_guest.ROOT / "examples/hello"), store.get("6.1"))
    return read_image(build.objects["hello"].stripped)


def put(computer: Machine, path: str, image: bytes) -> None:
    run(computer, ["tee", path], stdin=image).check()


def test_what_the_kernel_would_refuse_is_not_tried(computer: Machine, foreign: bytes) -> None:
    install_headers(computer)
    put(computer, "/tmp/hello.ko", foreign)
    for verb in ("insmod", "run"):
        done = lkm(computer, verb, "--host", "/tmp/hello.ko")
        assert done.returncode == 1
        told = errors(done) + done.stdout.decode()
        assert "ENOEXEC" in told
        assert "built for 6.1" in told
    module = only(lkm(computer, "run", "--host", "--json", "/tmp/hello.ko"))
    assert (module["verdict"], module["errno"], module["log"]) == ("load-failed", "ENOEXEC", [])
    assert module["taint"] == {"before": "", "after": ""}
    assert not [record for record in computer.log(whole=True) if "hello" in record.text]


def test_a_file_for_another_kernel_that_cannot_be_checked_is_not_tried(
    computer: Machine, foreign: bytes
) -> None:
    put(computer, "/tmp/hello.ko", foreign)
    done = lkm(computer, "run", "--host", "/tmp/hello.ko")
    assert done.returncode == 3
    assert f"hello.ko is built for {store.get('6.1').release}" in errors(done)
    assert f"hint: sudo apt-get install linux-headers-{computer.release}" in errors(done)
    assert not [record for record in computer.log(whole=True) if "hello" in record.text]


POLICIES = {
    "sig_enforce": ("EKEYREJECTED", "/sys/module/module/parameters/sig_enforce", b"1"),
    "lockdown": ("EPERM", "/sys/kernel/security/lockdown", b"integrity"),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_of_the_running_kernel_is_foretold_with_its_errno(
    computer: Machine, policy: str
) -> None:
    errno, path, value = POLICIES[policy]
    install_headers(computer)
    run(computer, ["mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"])
    computer.write(path, value)
    module = only(lkm(computer, "run", "--host", "--json", ko("hello")))
    assert (module["verdict"], module["errno"], module["log"]) == ("load-failed", errno, [])
    words = f"from lkm.host import HostMachine as H; print(H().load(open({ko('hello')!r}, 'rb').read()).errno)"
    tried = run(computer, ["python3", "-c", f"import errno; {words}"]).check()
    import errno as numbers

    assert int(tried.stdout) == getattr(numbers, errno)


def test_a_symbol_of_what_was_loaded_from_elsewhere_is_left_to_the_kernel(
    computer: Machine,
) -> None:
    install_headers(computer)
    run(computer, ["mkdir", "/elsewhere"]).check()
    run(computer, ["cp", ko("bell"), "/elsewhere"]).check()
    alone = lkm(computer, "insmod", "--host", "/elsewhere/bell.ko")
    assert alone.returncode == 2
    assert "clockwork" in errors(alone)
    assert lkm(computer, "insmod", "--host", ko("clockwork")).returncode == 0
    assert lkm(computer, "insmod", "--host", "/elsewhere/bell.ko").returncode == 0


def test_a_source_needs_the_headers(computer: Machine) -> None:
    put(computer, "/tmp/x.c", b"")
    done = lkm(computer, "run", "--host", "/tmp/x.c")
    assert done.returncode == 3
    assert f"sudo apt-get install linux-headers-{computer.release}" in errors(done)
