"""`lkm matrix` on real kernels: verdicts, kept results, Ctrl-C, and two of them at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "data" / "modules"
KERNELS = "6.1,6.12"

Matrix = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _results_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with the kernels, builds and frozen machines of the other tests, and no result of a cell."""
    from lkm.paths import cache_dir

    shared, cache = cache_dir(), tmp_path / "cache"
    cache.mkdir()
    for path in shared.iterdir():
        if path.name != "matrix" and not path.name.startswith("."):
            (cache / path.name).symlink_to(path)
    monkeypatch.setenv("LKM_CACHE_DIR", str(cache))


@pytest.fixture
def matrix(lkm: Any) -> Matrix:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        done = lkm("matrix", "--json", *words, timeout=300)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def module(
    directory: Path, body: str, *, name: str = "probe", kbuild: str = "obj-m := probe.o\n"
) -> Path:
    home = directory / name
    home.mkdir(exist_ok=True)
    (home / "Kbuild").write_text(kbuild)
    (home / "probe.c").write_text(
        "#include <linux/module.h>\n#include <linux/version.h>\n"
        + body
        + '\nMODULE_LICENSE("GPL");\n'
    )
    return home


def kept(tmp_path: Path) -> list[Path]:
    """The results in the store of this test."""
    return list(tmp_path.glob("cache/matrix/results/*/*.json"))


def states(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (cell["source"], ".".join(cell["kernel"].split(".")[:2])): cell["state"]
        for cell in document["cells"]
    }


def test_a_cell_has_the_kernels_verdict_and_runs_again_only_when_it_changed(
    matrix: Matrix, lkm: Any, tmp_path: Path
) -> None:
    old_only = "#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)\nint f(void) { return not_there; }\n#endif"
    probe = module(tmp_path, old_only)
    sources = [str(probe), str(MODULES / "oops_init.c")]
    code, first = matrix(*sources, "--kernels", KERNELS)
    assert states(first) == {
        ("probe", "6.1"): "ok",
        ("probe", "6.12"): "build-failed",
        ("oops_init", "6.1"): "problem",
        ("oops_init", "6.12"): "problem",
    }
    assert code == 4
    failed = first["cells"][1]
    error = failed["diagnostics"][0]
    assert (error["file"], error["excerpt"]["line"]) == ("probe.c", 4)
    assert error["excerpt"]["lines"][error["line"] - error["excerpt"]["first"]] == (
        "int f(void) { return not_there; }"
    )
    assert {group["where"] for group in first["groups"]} == {"6.12, the newest", "all"}
    oops = first["cells"][2]["modules"][0]
    assert oops["problems"][0]["kind"] == "oops"
    assert oops["check"]["verdict"] == "ok"
    assert str(tmp_path) not in json.dumps(first["cells"])
    the_border_is_found(lkm, probe)

    code, second = matrix(*sources, "--kernels", KERNELS)
    assert (code, {cell["kept"] for cell in second["cells"]}) == (4, {True})
    module(tmp_path, "")
    code, third = matrix(*sources, "--kernels", KERNELS)
    assert [cell["kept"] for cell in third["cells"]] == [False, False, True, True]
    assert code == 1


def the_border_is_found(lkm: Any, probe: Path) -> None:
    """By `lkm bisect`, anew and from what the matrix kept."""
    words = ("bisect", str(probe), "--kernels", KERNELS)
    done = lkm(*words, "--json", "--again")
    document = json.loads(done.stdout)
    assert (done.returncode, document["ran"]) == (0, 2)
    assert document["good"]["kernel"].startswith("6.1.")
    assert document["bad"]["diagnostics"][0]["text"].startswith("'not_there' undeclared")
    lines = lkm(*words, "--step", "build").stdout.splitlines()
    assert lines[0].startswith("last good: 6.1.")
    (bad,) = (index for index, line in enumerate(lines) if line.startswith("first bad: 6.12."))
    assert any("return not_there;" in line for line in lines[bad:])
    assert lines[1:bad] == ["  no complaint of the compiler's"]
    assert lines[-1] == "0 of 2 kernels tried now"


PROBES = """
#include <linux/kprobes.h>
static struct kprobe probe = { .symbol_name = "blkdev_get_by_dev" };  /* went in 6.9 */
static int __init probe_init(void)
{
	int err = register_kprobe(&probe);

	pr_info("probe: %s is %s\\n", probe.symbol_name, err ? "not there" : "there");
	return err;
}
static void __exit probe_exit(void) { unregister_kprobe(&probe); }
module_init(probe_init);
module_exit(probe_exit);
"""


def test_a_border_at_load_has_the_modules_own_words_on_both_sides(lkm: Any, tmp_path: Path) -> None:
    done = lkm("bisect", str(module(tmp_path, PROBES)), "--kernels", KERNELS, timeout=300)
    good, there, bad, not_there, tried = done.stdout.splitlines()
    assert good.startswith("last good: 6.1.")
    assert there == "  probe: blkdev_get_by_dev is there"
    assert bad.startswith("first bad: 6.12.")
    assert bad.endswith("load-failed: insmod: ENOENT: probe's init returned it")
    assert not_there == "  probe: blkdev_get_by_dev is not there"
    assert tried == "2 of 2 kernels tried now"


def test_a_full_disk_under_a_cell_is_no_verdict(tmp_path: Path) -> None:
    probe = module(tmp_path, "static char big[1 << 20] = {1};\nchar *f(void) { return big; }")
    work = tmp_path / "cache" / "work"
    work.unlink()
    work.mkdir()
    small = f'mount -t tmpfs -o size=256k none {work} && exec "$@"'
    lkm = [sys.executable, "-m", "lkm", "matrix", "--json", str(probe), "--kernels", "6.12"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh", *lkm],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (cell,) = json.loads(done.stdout)["cells"]
    assert (done.returncode, cell["state"]) == (3, "error"), cell
    assert "space" in cell["reason"]
    assert kept(tmp_path) == []


def test_a_source_may_build_other_modules_on_other_kernels(matrix: Matrix, tmp_path: Path) -> None:
    kbuild = (
        "obj-m := $(if $(filter 6.1.%,$(KERNELRELEASE)),probe.o,later.o second.o)\n"
        "later-y := probe.o\nsecond-y := more.o\n"
    )
    home = module(tmp_path, "", kbuild=kbuild)
    shutil.copy(home / "probe.c", home / "more.c")
    code, document = matrix(str(home), "--kernels", KERNELS)
    assert code == 0
    assert [[m["name"] for m in cell["modules"]] for cell in document["cells"]] == [
        ["probe"],
        ["later", "second"],
    ]


def test_the_sources_own_tests_are_counted(matrix: Matrix, lkm: Any, tmp_path: Path) -> None:
    home = module(tmp_path, "")
    (home / "test_probe.py").write_text(
        "def test_loads(insmod):\n    insmod()\n\n\ndef test_fails(insmod):\n    assert insmod() is None\n"
    )
    code, document = matrix(str(home), "--kernels", KERNELS, "--tests")
    cell = document["cells"][0]
    assert (code, cell["state"]) == (1, "tests-failed")
    assert (cell["tests"]["tests"], cell["tests"]["failed"]) == (2, 1)
    assert cell["reason"].startswith("1 of 2 tests: test_fails: ")
    bisected_by_tests(lkm, home)


def bisected_by_tests(lkm: Any, home: Path) -> None:
    """What a matrix with tests kept answers what is asked of the build and the load, too."""
    for step, said in (("test", "both bad at step test"), ("load", "both good at step load")):
        done = lkm("bisect", str(home), "--kernels", KERNELS, "--step", step)
        assert (done.returncode, "trying" in done.stderr) == (2, False), done.stderr
        assert said in done.stderr


def test_what_no_kernel_has_and_what_is_no_source_is_wrong_usage(lkm: Any, tmp_path: Path) -> None:
    hello = str(ROOT / "examples" / "hello")
    for words in ([hello, "--kernels", "2.4"], [str(tmp_path), "--kernels", "6.12"]):
        done = lkm("matrix", *words)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "hint: " in done.stderr


def test_a_parameter_that_the_module_has_not_is_no_verdict(matrix: Matrix, tmp_path: Path) -> None:
    code, document = matrix(str(module(tmp_path, "")), "--params", "x=1", "--kernels", "6.12")
    (cell,) = document["cells"]
    assert (code, cell["state"], cell["error"]["type"]) == (2, "bad-input", "UsageError")
    assert kept(tmp_path) == []


def test_two_at_once_on_one_store_both_say_the_same(tmp_path: Path) -> None:
    home = module(tmp_path, "int a;")
    argv = [sys.executable, "-m", "lkm", "matrix", "--json", str(home), "--kernels", "6.12"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    documents = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert states(documents[0]) == states(documents[1])


def test_ctrl_c_keeps_the_cells_that_ended_and_leaves_no_process(
    matrix: Matrix, tmp_path: Path
) -> None:
    spin = str(MODULES / "spin.c")  # takes its whole timeout
    words = [str(module(tmp_path, "")), spin, "--kernels", "6.12", "--timeout", "100"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lkm", "matrix", "-j", "2", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LKM_TEST_MARK": str(tmp_path)},
        start_new_session=True,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert any("probe on" in line and ": ok" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert alone(str(tmp_path))
    _, document = matrix(words[0], "--kernels", "6.12", "--timeout", "100")
    assert document["cells"][0]["kept"]


def test_kill_9_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lkm", "matrix", str(MODULES / "spin.c"), "--kernels", "6.12"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LKM_TEST_MARK": str(tmp_path)},
    )
    deadline = time.monotonic() + 60
    while not any("qemu" in line for line in alive(str(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert alone(str(tmp_path))


def alive(mark: str) -> list[str]:
    """The command lines of what runs with this mark in its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"LKM_TEST_MARK={mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return [line for line in found if line]


def alone(mark: str) -> bool:
    deadline = time.monotonic() + 10
    while (left := alive(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    return True
