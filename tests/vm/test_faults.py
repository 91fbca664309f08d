"""`lkm faults`: planted bugs are found in their error paths, and none in the corrected twins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.vm.conftest import Lkm

pytestmark = pytest.mark.vm

DATA = Path(__file__).parents[1] / "data" / "faults"


@pytest.mark.parametrize(
    ("name", "exercise", "results"),
    [
        ("third_kfree", None, ["handled", "handled", "leak"]),
        ("free_twice", None, ["handled", "double-free"]),
        ("read_locked", "cat /proc/read_locked", ["handled", "lock-held"]),
        ("use_null", None, ["oops"]),
        ("kobject_left", None, ["handled", "leak"]),
    ],
)
def test_a_planted_bug_is_found_and_not_in_its_twin(
    lkm: Lkm, tmp_path: Path, name: str, exercise: str | None, results: list[str]
) -> None:
    for file in (f"{name}.c", f"{name}_fixed.c"):
        shutil.copy(DATA / file, tmp_path)
    (tmp_path / "Kbuild").write_text(f"obj-m += {name}.o {name}_fixed.o\n")
    for module, wanted in ((name, results), (f"{name}_fixed", ["handled"] * len(results))):
        words = ["--exercise", exercise] if exercise else []
        done = lkm("faults", "--json", "--module", module, str(tmp_path), *words)
        faults = json.loads(done.stdout)["faults"]
        assert [fault["result"] for fault in faults] == wanted, done.stdout
        for problem in (each for fault in faults for each in fault["problems"]):
            assert problem["source"]["line"] == problem["line"], problem
        assert done.returncode == (module == name)


TESTS = """
import pytest

def test_reads(vm, insmod):
    insmod()
    assert vm.path("/proc/{name}").read_text() == "text\\n"

def test_reads_again(vm, insmod):
    insmod()
    for _ in range(2):
        try:
            vm.path("/proc/{name}").read_text()
        except OSError:
            pass

def test_is_wrong(vm, insmod):
    insmod()
    assert vm.path("/proc/{name}").read_text() == "other"
"""


def came_of(lkm: Lkm, home: Path, name: str, test: str, *words: str) -> tuple[list[str], int]:
    """What came of each call that the test makes, and the exit code."""
    (home / "test_it.py").write_text(TESTS.format(name=name))
    test = f"{home}/test_it.py::{test}"
    done = lkm("faults", "--json", str(home / f"{name}.c"), "--exercise-test", test, *words)
    return [fault["result"] for fault in json.loads(done.stdout)["faults"]], done.returncode


def test_a_bug_that_only_a_test_reaches_is_found_and_not_in_its_twin(
    lkm: Lkm, tmp_path: Path
) -> None:
    text = (DATA / "read_leak.c").read_text()
    for place, define in (("buggy", ""), ("fixed", "#define FIXED\n")):
        home = tmp_path / place
        home.mkdir()
        (home / "read_leak.c").write_text(define + text)
        results, code = came_of(lkm, home, "read_leak", "test_reads")
        last = "handled" if define else "leak"
        assert results == ["handled", "handled", last]
        assert code == (not define)


def test_a_test_that_hangs_in_the_kernel_is_a_hang(lkm: Lkm, tmp_path: Path) -> None:
    shutil.copy(DATA / "read_locked.c", tmp_path)
    words = ("--timeout", "2", "--only", "2")
    results, code = came_of(lkm, tmp_path, "read_locked", "test_reads_again", *words)
    assert (results, code) == (["hang"], 1)


def test_a_test_that_fails_without_a_fault_is_an_error(lkm: Lkm, tmp_path: Path) -> None:
    shutil.copy(DATA / "read_leak.c", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS.format(name="read_leak"))
    test = f"{tmp_path}/test_it.py::test_is_wrong"
    done = lkm("faults", str(tmp_path / "read_leak.c"), "--exercise-test", test)
    assert done.returncode == 1
    assert "test_is_wrong" in done.stderr
    assert "fails before any call is failed: AssertionError" in done.stderr


def test_what_makes_no_sense_is_refused(lkm: Lkm) -> None:
    source = str(DATA / "third_kfree.c")
    for words, said in (
        (["--only", "0"], "--only 0"),
        (["--keep"], "--keep is for one call"),
        (["--timeout", "0"], "--timeout 0"),
        (["--per-place", "0"], "--per-place 0"),
        (["--exercise-test", "no/test.py"], "no such file: no/test.py"),
        (["--exercise-test", __file__, "--exercise", "true"], "do not go together"),
        (["--exercise-test", __file__, "p=1"], "it is the test that loads the module"),
        (["--exercise-test", __file__, "--only", "1", "--keep"], "--keep: the machines of a test"),
        (["--only", "4"], "call 4 of third_kfree was not made"),
    ):
        done = lkm("faults", source, *words)
        assert done.returncode == 2
        assert said in done.stderr
