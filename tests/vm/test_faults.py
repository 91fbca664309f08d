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


def test_what_makes_no_sense_is_refused(lkm: Lkm) -> None:
    source = str(DATA / "third_kfree.c")
    for words, said in (
        (["--only", "0"], "--only 0"),
        (["--keep"], "--keep is for one call"),
        (["--timeout", "0"], "--timeout 0"),
        (["--only", "4"], "call 4 of third_kfree was not made"),
    ):
        done = lkm("faults", source, *words)
        assert done.returncode == 2
        assert said in done.stderr
