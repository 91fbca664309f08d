"""The sample modules on a real kernel: every row of what they promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).parents[2] / "examples"
Run = Callable[..., dict[str, Any]]


def messages(module: dict[str, Any]) -> list[str]:
    """The module's own lines: without the notes that every out-of-tree module gets."""
    return [r["text"] for r in module["log"] if "taint" not in r["text"]]


def only(document: dict[str, Any]) -> dict[str, Any]:
    (module,) = document["modules"]
    assert isinstance(module, dict)
    return module


@pytest.fixture
def run(lkm: Any) -> Run:
    def run_(*words: str) -> dict[str, Any]:
        done = lkm("run", "--json", *words)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return run_


def test_hello_logs_on_load_and_on_unload(run: Run) -> None:
    module = only(run(str(EXAMPLES / "hello")))
    assert messages(module) == ["hello: init", "hello: exit"]
    assert module["verdict"] == "ok"


def test_a_module_of_three_files_calls_across_them(run: Run) -> None:
    module = only(run(str(EXAMPLES / "mulfile")))
    assert module["name"] == "mymodule"
    assert messages(module) == ["my_module: init", "mymodule_sub: called", "my_module: exit"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("intparam=123", "arg=456", "file=/a", "filepath=/b"),
            [
                "getargs: init",
                "getargs: => intparam\t= 123",
                "getargs: => intparam2\t= 456",
                "getargs: => file\t= /a",
                "getargs: => file2\t= /b",
                "getargs: => array\t= [ 0 0 0 0 0 0 0 0]",
            ],
        ),
        (
            ("array=12,23,34,45,56",),
            [
                "getargs: init",
                "getargs: => intparam\t= 0",
                "getargs: => intparam2\t= 0",
                "getargs: => file2\t= ",
                "getargs: => array\t= [ 12 23 34 45 56 0 0 0]",
            ],
        ),
        (
            ("array=1,2,3,4,5,6,7,-8", "file=a b"),
            [
                "getargs: init",
                "getargs: => intparam\t= 0",
                "getargs: => intparam2\t= 0",
                "getargs: => file\t= a b",
                "getargs: => file2\t= ",
                "getargs: => array\t= [ 1 2 3 4 5 6 7 -8]",
            ],
        ),
    ],
)
def test_getargs_prints_what_it_was_given(
    run: Run, words: tuple[str, ...], expected: list[str]
) -> None:
    module = only(run(str(EXAMPLES / "getargs"), *words))
    assert messages(module) == expected
    assert module["params"] == {}


def test_params_shows_what_has_a_permission_and_nothing_else(run: Run) -> None:
    module = only(
        run(str(EXAMPLES / "params"), "p_int=-7", "a_readonly=5,6", "s_writable=hi", "p_invbool=y")
    )
    shown = module["params"]
    assert shown["p_int"] == "-7"
    assert shown["a_readonly"] == "5,6,3,4"
    assert shown["s_writable"] == "hi"
    assert shown["p_invbool"] == "Y"
    assert not [name for name in shown if name.endswith("_hidden")]
    assert {"n_readonly", "n_writable", "n_rootonly", "s_rootonly", "a_writable"} <= set(shown)


def test_params_has_every_type_of_the_kernel() -> None:
    source = (EXAMPLES / "params" / "params.c").read_text()
    types = ["byte", "short", "ushort", "int", "uint", "long", "ulong", "ullong"]
    types += ["hexint", "charp", "bool", "invbool"]
    for name in types:
        assert f"module_param(p_{name}, {name}, 0644);" in source


def test_sysfs_has_exactly_the_declared_modes_and_a_write_changes_the_value(
    lkm: Any, machine: str
) -> None:
    assert lkm("insmod", str(EXAMPLES / "params"), "-m", machine).returncode == 0
    listing = lkm(
        "sh", "-m", machine, "--", "stat", "-c", "%a %n", "-R", "/sys/module/params/parameters"
    )
    listing = lkm(
        "sh", "-m", machine, "--", "sh", "-c", "cd /sys/module/params/parameters; stat -c '%a %n' *"
    )
    modes = {line.split()[1]: line.split()[0] for line in listing.stdout.splitlines()}
    declared = {
        "p_": "644", "_readonly": "444", "_writable": "644", "_rootonly": "600",
    }  # fmt: skip
    for name, mode in modes.items():
        wanted = next(
            (m for key, m in declared.items() if key.startswith("_") and name.endswith(key)), "644"
        )
        assert mode == wanted, name
    assert lkm("param", "params", "p_uint", "4294967295", "-m", machine).stdout == "4294967295\n"
    assert lkm("param", "params", "a_writable", "4,5", "-m", machine).stdout == "4,5\n"
    refused = lkm("param", "params", "p_uint", "-1", "-m", machine)
    assert refused.returncode == 2
    assert "p_uint=-1" in refused.stderr
    assert lkm("param", "params", "p_uint", "-m", machine).stdout == "4294967295\n"


def test_plain_make_builds_every_sample_too(lkm: Any, tmp_path: Path) -> None:
    facts = json.loads(lkm("kernel", "path", "--json").stdout)
    for name in ("hello", "mulfile", "getargs", "params"):
        text = (EXAMPLES / name / "Makefile").read_text()
        assert "KDIR" in text
        assert "\nall:" in text
        assert "\nclean:" in text
    assert facts["build_dir"]
