"""What lkm says of modules that go wrong, each on a real kernel."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

MODULES = Path(__file__).parents[1] / "data" / "modules"


def verdict(lkm: Any, source: str | Path, *words: str, code: int = 1) -> dict[str, Any]:
    done = lkm("run", "--json", str(source), *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    (module,) = json.loads(done.stdout)["modules"]
    assert isinstance(module, dict)
    return module


def texts(module: dict[str, Any]) -> list[str]:
    return [record["text"] for record in module["log"]]


@pytest.mark.parametrize(
    ("name", "expected", "errno", "reason"),
    [
        ("noexit", "unload-failed", "EBUSY", "no exit function"),
        ("enodev", "load-failed", "ENODEV", "ENODEV"),
        ("panics", "panic", None, "panics: asked for"),
        ("oops_init", "problem", None, "NULL pointer dereference"),
        ("oops_exit", "problem", None, "NULL pointer dereference"),
        ("bug", "problem", None, r"bug\.c:\d+"),
        ("warn", "problem", None, r"warn\.c:\d+"),
    ],
)
def test_a_module_that_goes_wrong_gets_its_verdict(
    lkm: Any, name: str, expected: str, errno: str | None, reason: str
) -> None:
    module = verdict(lkm, MODULES / f"{name}.c")
    assert module["verdict"] == expected
    assert module["errno"] == errno
    assert re.search(reason, module["reason"])


def test_a_module_whose_sibling_does_not_load_fails_with_it(lkm: Any, tmp_path: Path) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := needed.o needs.o\n")
    head = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nint there(void);\n'
    (tmp_path / "needed.c").write_text(
        f"{head}int there(void) {{ return 0; }}\nEXPORT_SYMBOL(there);\n"
        "static int __init start(void) { return -ENODEV; }\nmodule_init(start);\n"
    )
    (tmp_path / "needs.c").write_text(
        f"{head}static int __init start(void) {{ return there(); }}\nmodule_init(start);\n"
    )
    done = lkm("run", "--json", str(tmp_path))
    assert done.returncode == 1
    found = [
        (each["verdict"], each["errno"], each["reason"])
        for each in json.loads(done.stdout)["modules"]
    ]
    assert found == [
        ("load-failed", "ENODEV", "insmod: ENODEV: needed's init returned it"),
        ("load-failed", "ENODEV", "needed.ko, which is needed, does not load: ENODEV"),
    ]


@pytest.mark.parametrize("name", ["oops_init", "oops_exit", "bug", "warn"])
def test_a_problem_names_its_kind_and_a_function_of_the_module(lkm: Any, name: str) -> None:
    (problem, *_) = verdict(lkm, MODULES / f"{name}.c")["problems"]
    assert problem["kind"] in ("oops", "BUG", "WARNING")
    assert problem["function"]
    assert problem["summary"]


@pytest.mark.parametrize(
    ("name", "said", "where"),
    [
        ("sleeper", "sleeper: sleeping", "sleeper_init"),
        ("spin", "spin: spinning", "spin_init"),
        ("hang_exit", "hang_exit: exit", "hang_exit_exit"),
    ],
)
def test_one_that_never_returns_is_hung_with_its_log_and_where_it_is(
    lkm: Any, name: str, said: str, where: str
) -> None:
    module = verdict(lkm, MODULES / f"{name}.c", "--timeout", "3")
    assert module["verdict"] == "hung"
    assert said in texts(module)
    assert where in module["reason"]
    assert "within 3 s" in module["reason"]


def test_a_flood_is_counted_and_survived(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "flood.c", code=0)
    assert module["verdict"] == "ok"
    lines = [text for text in texts(module) if text.startswith("flood: line")]
    assert "flood: line 99999" in lines
    taints = len(texts(module)) - len(lines)
    assert module["log_lost"] + len(lines) in (100_000, 100_000 + 2 - taints)


def test_a_line_without_its_newline_is_in_the_log(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "nonewline.c", code=0)
    assert texts(module)[-2:] == [
        "nonewline: init without a newline",
        "nonewline: exit without a newline",
    ]


def test_the_kernels_own_modules_are_loaded_first(lkm: Any) -> None:
    module = verdict(lkm, MODULES / "needs_dep.c", code=0)
    assert any(re.fullmatch(r"needs_dep: crc [0-9a-f]{4}", text) for text in texts(module))


def test_taint_notes_are_in_the_log_and_are_no_problem(lkm: Any) -> None:
    module = verdict(lkm, MODULES.parents[2] / "examples" / "hello", code=0)
    assert any("loading out-of-tree module taints kernel" in text for text in texts(module))
    assert module["problems"] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("syntax_error", r"syntax_error\.c:\d+:\d+: error: "),
        ("undefined", "nobody_exports_this.* undefined"),
    ],
)
def test_what_does_not_build_is_build_failed_with_the_compilers_words(
    lkm: Any, name: str, words: str
) -> None:
    module = verdict(lkm, MODULES / f"{name}.c", code=4)
    assert module["verdict"] == "build-failed"
    assert re.search(words, module["reason"])


def test_timings_are_given_for_each_stage(lkm: Any) -> None:
    module = verdict(lkm, MODULES.parents[2] / "examples" / "hello", code=0)
    assert set(module["timings"]) == {"build", "restore", "load", "unload", "settle"}
    assert all(seconds > 0 for seconds in module["timings"].values())


def test_several_modules_each_get_a_machine_in_the_order_of_their_needs(
    lkm: Any, tmp_path: Path
) -> None:
    (tmp_path / "Makefile").write_text("obj-m := user.o core.o\n")
    head = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n'
    (tmp_path / "core.c").write_text(
        head
        + "int core_answer(void) { return 42; }\nEXPORT_SYMBOL_GPL(core_answer);\n"
        'static int __init i(void) { pr_info("core: up\\n"); return 0; }\nstatic void __exit e(void) {}\n'
        "module_init(i); module_exit(e);\nint core_answer(void);\n".replace(
            "int core_answer(void);\n", ""
        )
    )
    (tmp_path / "user.c").write_text(
        head + "int core_answer(void);\nstatic int n; module_param(n, int, 0444);\n"
        'static int __init i(void) { pr_info("user: %d %d\\n", core_answer(), n); return 0; }\n'
        "static void __exit e(void) {}\nmodule_init(i); module_exit(e);\n"
    )
    done = lkm("run", "--json", str(tmp_path), "n=5")
    assert done.returncode == 0, done.stdout + done.stderr
    core, user = json.loads(done.stdout)["modules"]
    assert (core["name"], user["name"]) == ("core", "user")
    assert "user: 42 5" in texts(user)
    assert user["params"] == {"n": "5"}
    done = lkm("run", "--json", str(tmp_path), "--module", "core")
    (module,) = json.loads(done.stdout)["modules"]
    assert module["name"] == "core"
    assert lkm("run", str(tmp_path), "--module", "nothing").returncode == 2


def two_modules(directory: Path) -> None:
    directory.mkdir()
    (directory / "Makefile").write_text("obj-m := bell.o clockwork.o\n")
    head = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nint tick(void);\n'
    tail = "static void __exit e(void) {}\nmodule_init(i);\nmodule_exit(e);\n"
    (directory / "clockwork.c").write_text(
        head + "int tick(void) { return 7; }\nEXPORT_SYMBOL_GPL(tick);\n"
        "static int __init i(void) { return 0; }\n" + tail
    )
    (directory / "bell.c").write_text(
        head + 'static int __init i(void) { pr_info("bell: %d\\n", tick()); return 0; }\n' + tail
    )


def test_a_ko_finds_what_it_needs_beside_it(lkm: Any, tmp_path: Path) -> None:
    two_modules(tmp_path / "clock")
    built = json.loads(lkm("build", "--json", str(tmp_path / "clock")).stdout)
    (bell,) = [made["path"] for made in built["objects"] if made["name"] == "bell"]
    module = verdict(lkm, bell, code=0)
    assert "bell: 7" in texts(module)


def test_insmod_takes_what_is_loaded_for_granted(lkm: Any, tmp_path: Path, machine: str) -> None:
    two_modules(tmp_path / "clock")
    built = json.loads(lkm("build", "--json", str(tmp_path / "clock")).stdout)
    paths = {made["name"]: made["path"] for made in built["objects"]}
    for name in ("clockwork", "bell"):
        assert lkm("insmod", paths[name]).returncode == 0
    refused = lkm("rmmod", "clockwork")
    assert refused.returncode == 1
    assert "bell" in refused.stderr
    assert lkm("rmmod", "bell", "clockwork").returncode == 0


@pytest.mark.parametrize(
    ("words", "function", "text"),
    [
        (["what=kthread"], "late_kthread", "fired++;"),
        (["what=kthread", "result=-19"], "late_kthread", "fired++;"),
        (["what=timer"], "__run_timers", "static DEFINE_TIMER(timer, late_timer);"),
    ],
)
def test_what_runs_in_freed_memory_is_traced_to_what_it_was(
    lkm: Any, words: list[str], function: str, text: str
) -> None:
    module = verdict(lkm, MODULES / "late.c", *words, "ms=500")
    (problem, *_) = module["problems"]
    assert (problem["kind"], problem["module"], problem["function"]) == ("oops", "late", function)
    source = problem["source"]
    assert source["lines"][source["line"] - source["first"]].strip() == text
    assert Path(source["file"]) == MODULES / "late.c"
    assert problem["line"] == source["line"]


def test_a_module_that_is_compressed_is_traced_to_its_line(lkm: Any, tmp_path: Path) -> None:
    source = tmp_path / "oops_init.c"
    source.write_text((MODULES / "oops_init.c").read_text())
    (built,) = json.loads(lkm("build", "--json", str(source)).stdout)["objects"]
    packed = Path(built["path"] + ".xz")
    packed.write_bytes(lzma.compress(Path(built["path"]).read_bytes()))
    (problem, *_) = verdict(lkm, packed)["problems"]
    assert problem["source"]["file"] == str(source)
    (line,) = (each for each in problem["source"]["lines"] if "nowhere = value" in each)
    assert problem["source"]["lines"].index(line) + problem["source"]["first"] == problem["line"]
