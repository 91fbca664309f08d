"""`lkm run --track` on a stock kernel: what is not given back is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.vm.conftest import Lkm

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
LEAKY = ROOT / "tests" / "data" / "interpose" / "leaky.c"


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(LEAKY, tmp_path_factory.mktemp("track")))


def line_of(text: str) -> int:
    lines = LEAKY.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_what_is_not_given_back_is_named_with_its_line(lkm: Lkm, leaky: Path) -> None:
    done = lkm("run", "--track", "--settle", "0", "--json", str(leaky))
    (module,) = json.loads(done.stdout)["modules"]
    found = {(p["kind"], p["line"], p["summary"].partition(" (")[0]) for p in module["problems"]}
    numbers = "a range of device numbers of alloc_chrdev_region() was not given back"
    twice = "kfree() of memory of kmalloc() that was freed by kfree() in leaky_exit()"
    assert ("leak", line_of("alloc_chrdev_region"), numbers) in found
    assert ("double-free", line_of("} else {") + 1, twice) in found
    (memory,) = (p for p in module["problems"] if p["summary"].startswith("memory"))
    assert (memory["kind"], memory["function"]) == ("leak", "leaky_init")
    assert all(problem["line"] == problem["source"]["line"] for problem in module["problems"])
    assert all(problem["fault"]["places"] for problem in module["problems"])
    assert len(found) == 3
    assert module["verdict"] == "problem"
    assert done.returncode == 1
    assert not [record for record in module["log"] if "lkm_interpose: leak" in record["text"]]


def test_a_module_that_gives_all_back_is_ok(lkm: Lkm, leaky: Path) -> None:
    done = lkm("run", "--track", str(leaky), "clean=1")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("sample", ["chardev", "netdev", "procfs"])
def test_the_samples_give_all_back(lkm: Lkm, sample: str) -> None:
    done = lkm("run", "--track", str(ROOT / "examples" / sample))
    assert done.returncode == 0, done.stdout + done.stderr


def test_tracking_is_for_guests(lkm: Lkm, leaky: Path) -> None:
    done = lkm("run", "--track", "--host", str(leaky))
    assert done.returncode == 2
    assert "--host and --track do not go together" in done.stderr
