"""Mistakes that a stock kernel lets pass, made on the debug kernel: tests/data/modules/sanitize.c."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.vm.conftest import Lkm

pytestmark = [pytest.mark.vm, pytest.mark.debug_kernel]

MODULES = Path(__file__).parents[1] / "data" / "modules"

MISTAKES = {
    "slab_out_of_bounds": "KASAN",
    "stack_out_of_bounds": "KASAN",
    "global_out_of_bounds": "KASAN",
    "vmalloc_out_of_bounds": "KASAN",
    "use_after_free": "KASAN",
    "double_free": "KASAN",
    "bad_copy": "KASAN",
    "abba": "lockdep",
    "sleep_under_spinlock": "scheduling-while-atomic",
    "uninitialised_timer": "debug-objects",
    "freed_timer": "debug-objects",
    "uninitialised_work": "WARNING",
    "freed_work": "debug-objects",
    "shift": "UBSAN",
    "bad_index": "UBSAN",
}
"""The `what` of sanitize.c, and the kind of the first problem that comes of it."""

LEAKS = {"leak": 100, "leak_at_exit": 200, "leak_vmalloc": 4096}
"""The `what` of sanitize.c, and how many bytes it loses."""


def tried(lkm: Lkm, source: str, *words: str) -> dict[str, Any]:
    done = lkm("run", "--json", "--kernel", "debug", str(MODULES / source), *words, timeout=400)
    (module,) = json.loads(done.stdout)["modules"]
    found: dict[str, Any] = module
    assert done.returncode == (0 if found["verdict"] == "ok" else 1), done.stderr
    return found


def marked(what: str) -> int:
    """The number of the line in sanitize.c that makes this mistake."""
    lines = (MODULES / "sanitize.c").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if f"/* {what} here */" in line)


@pytest.mark.parametrize(("what", "kind"), MISTAKES.items())
def test_a_mistake_is_found_and_its_function_named(lkm: Lkm, what: str, kind: str) -> None:
    module = tried(lkm, "sanitize.c", f"what={what}")
    assert module["verdict"] == "problem"
    first = module["problems"][0]
    assert (first["kind"], first["function"], first["module"]) == (kind, what, "sanitize")
    assert first["line"] == marked(what)


@pytest.mark.parametrize(("what", "size"), LEAKS.items())
def test_a_leak_is_found_after_the_module_has_gone(lkm: Lkm, what: str, size: int) -> None:
    module = tried(lkm, "sanitize.c", f"what={what}")
    (leak,) = (problem for problem in module["problems"] if problem["kind"] == "leak")
    assert leak["summary"].startswith(f"memory leak: {size} bytes ")
    assert (leak["function"], leak["line"]) == (what, marked(what))
    assert module["reason"] == leak["summary"]


def test_a_module_that_makes_no_mistake_is_ok(lkm: Lkm) -> None:
    module = tried(lkm, "sanitize.c", "what=nothing")
    assert (module["verdict"], module["problems"], module["kunit"]) == ("ok", [], [])


def test_kunit_suites_are_told_case_by_case(lkm: Lkm) -> None:
    module = tried(lkm, "kunit_suite.c")
    mixed, good = module["kunit"]
    assert (mixed["name"], mixed["status"], good["status"]) == ("mixed", "failed", "ok")
    assert [case["status"] for case in mixed["cases"]] == ["ok", "failed", "skipped", "failed"]
    assert module["verdict"] == "problem"
    assert [problem["kind"] for problem in module["problems"]] == ["KUnit", "KUnit"]
    assert module["problems"][0]["line"] == mixed["cases"][1]["line"]
