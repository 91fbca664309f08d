"""Modules that the kernel asks modprobe for while another loads, on a real kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lkm import LoadError, kernel

pytestmark = pytest.mark.vm

ASKS = Path(__file__).parents[1] / "data" / "modules" / "asks.c"


def tried(lkm: Any, source: Path, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = lkm("run", "--json", str(source), *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return {module["name"]: module for module in json.loads(done.stdout)["modules"]}


@pytest.mark.parametrize(
    ("careless", "kernel"),
    [("n", "6.12"), ("y", "6.12"), ("n", "5.10")],
    ids=["refuses", "oopses", "oldest"],
)
def test_what_the_kernel_asks_for_is_there(lkm: Any, careless: str, kernel: str) -> None:
    module = tried(lkm, ASKS, f"careless={careless}", "-k", kernel)["asks"]
    assert module["requested"] == ["nls_koi8_r"]
    said = [record["text"] for record in module["log"]]
    assert "asks: koi8-r" in said
    assert (module["asked"], [text for text in said if "modprobe" in text]) == ([], [])


def test_what_nobody_has_is_told(lkm: Any) -> None:
    done = lkm("run", str(ASKS), "charset=klingon")
    assert done.returncode == 1
    assert "the kernel asked modprobe for nls_klingon: not there\n" in done.stdout
    assert "hint: the kernel asked modprobe for nls_klingon, which was not there" in done.stdout


def test_a_sibling_answers_by_its_alias(lkm: Any, tmp_path: Path) -> None:
    (tmp_path / "Kbuild").write_text("obj-m := asks.o tables.o\n")
    (tmp_path / "asks.c").write_text(ASKS.read_text())
    (tmp_path / "tables.c").write_text(
        "#include <linux/module.h>\n#include <linux/nls.h>\n"
        'static struct nls_table table = { .charset = "klingon" };\n'
        "static int __init start(void) { return register_nls(&table); }\nmodule_init(start);\n"
        "static void __exit stop(void) { unregister_nls(&table); }\nmodule_exit(stop);\n"
        'MODULE_LICENSE("GPL");\nMODULE_ALIAS_NLS(klingon);\n'
    )
    modules = tried(lkm, tmp_path, "charset=klingon")
    assert modules["asks"]["requested"] == ["tables"]
    assert modules["tables"]["requested"] == []


def test_insmod_says_what_was_asked_for_and_modprobe_loads_it(lkm: Any) -> None:
    name = "requests"
    assert lkm("up", name).returncode == 0
    try:
        done = lkm("insmod", "-m", name, str(ASKS))
        assert done.returncode == 1
        asked = "hint: the kernel asked modprobe for nls_koi8-r, which was not there"
        assert f"{asked}: lkm modprobe nls_koi8-r\n" in done.stderr
        for _ in range(2):  # what is there already is fine
            done = lkm("modprobe", "-m", name, "nls_koi8-r")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert lkm("insmod", "-m", name, str(ASKS)).returncode == 0
        gone = lkm("modprobe", "-m", name, "nls_klingon")
        assert gone.returncode == 2
        assert "has no module 'nls_klingon'" in gone.stderr
    finally:
        lkm("down", name)


def test_python_says_what_to_write() -> None:
    with kernel().machine() as vm:
        with pytest.raises(LoadError) as caught:
            vm.insmod(ASKS)
        assert str(caught.value.hint).endswith(': vm.modprobe("nls_koi8-r")')
        vm.modprobe("nls_koi8-r")
        vm.insmod(ASKS)


def test_of_two_tries_the_last_machine_stays_up(lkm: Any) -> None:
    done = lkm("run", "--keep", str(ASKS))
    name = re.findall(r"^machine (\S+) is up", done.stdout, re.M)
    try:
        up = [machine["name"] for machine in json.loads(lkm("ps", "--json").stdout)["machines"]]
        assert [each for each in up if each.startswith("asks-")] == name
        assert "nls_koi8_r" in lkm("lsmod", "-m", *name).stdout
    finally:
        lkm("down", *name)


def test_calls_are_failed_where_it_loads(lkm: Any, tmp_path: Path) -> None:
    source = ASKS.read_text().replace("<linux/nls.h>", "<linux/nls.h>\n#include <linux/slab.h>")
    source = source.replace("\treturn 0;", "\tkfree(kmalloc(100, GFP_KERNEL));\n\treturn 0;")
    (tmp_path / "asks.c").write_text(source)
    found = json.loads(lkm("faults", "--json", str(tmp_path / "asks.c")).stdout)
    assert [(fault["call"], fault["result"]) for fault in found["faults"]] == [
        ("kmalloc", "success")
    ]
