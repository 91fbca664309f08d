"""Real kernels take the values that lkm takes, refuse those that it refuses, and show what it expects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from bench.params_differential import PARAMS, Judge, compared, values_of
from bench.params_values import Given, Verdict

from lkm import kbuild, ko, run
from lkm import source as sources
from lkm.errors import UsageError
from lkm.kernels import store
from lkm.vm.fresh import Fresh

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("name", ["6.1", "6.12"])
def test_drawn_values_have_the_kernels_verdict_and_read_back(name: str) -> None:
    counts = compared(store.get(name), 500)
    assert values_of(counts) >= 500
    for way in ("written", "insmod"):
        assert all(counts[f"{way}, {what}"] for what in ("taken", "EINVAL", "ERANGE"))
    assert counts["argument string, taken"]
    assert counts["argument string, EINVAL"]


@pytest.fixture
def judge() -> Iterator[Judge]:
    kernel = store.get()
    built = kbuild.build(sources.find(PARAMS), kernel).objects["params"]
    module, image = ko.read(built.path), ko.read_image(built.stripped)
    with Fresh(kernel) as fresh, Judge(fresh, module, image) as judging:
        yield judging


@pytest.mark.parametrize("raw", [b"256", b"-1", b"x", b""])
def test_a_wrong_verdict_on_a_value_is_noticed(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    judge.given([Given("p_byte", raw)])
    monkeypatch.setattr("bench.params_differential.verdict", lambda *_: Verdict())
    with pytest.raises(AssertionError, match="lkm says '0', the kernel 'E"):
        judge.given([Given("p_byte", raw)])


def test_a_wrong_read_back_is_noticed(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    judge.written([Given("p_hexint", b"10")])
    monkeypatch.setattr("bench.params_differential.shown", lambda *_: "10")
    with pytest.raises(
        AssertionError, match=r"p_hexint after b'10': lkm says b'10\\n', the kernel"
    ):
        judge.written([Given("p_hexint", b"10")])


REFUSED = [
    ("p_byte=256", "p_byte does not take '256'", "it is byte (unsigned char) and takes 0 to 255"),
    ("p_int=x", "p_int does not take 'x'", "-2147483648 to 2147483647"),
    ("a_writable=1,2,3,4,5", "a_writable does not take '1,2,3,4,5'", "at most 4 elements"),
    ("s_writable=0123456789abcdef", "s_writable does not take", "at most 15 bytes"),
    ("p_bool=maybe", "p_bool does not take 'maybe'", "y/n, 1/0, on/off"),
    ("p_invbool", "p_invbool does not take its bare name", "a value, p_invbool=..."),
    ("p_itn=1", "has no parameter 'p_itn'", "did you mean p_int?"),
]
"""A word, and what the refusal says: parameter and value, type and limits."""


@pytest.mark.parametrize(("word", "what", "limits"), REFUSED)
def test_run_and_insmod_refuse_a_value_before_anything_is_loaded(
    lkm: Any, machine: str, word: str, what: str, limits: str
) -> None:
    for verb in ("run", "insmod"):
        done = lkm(verb, str(PARAMS), word)
        assert done.returncode == 2, done.stdout + done.stderr
        assert what in done.stderr
        assert limits in done.stderr
    loaded = json.loads(lkm("lsmod", "--json", "-m", machine).stdout)["modules"]
    assert "params" not in {each["name"] for each in loaded}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("p_charp", "two words", "two words"),
        ("p_charp", "", ""),
        ("s_writable", "0123456789abcde", "0123456789abcde"),
        ("p_int", "-5", "-5"),
        ("a_writable", "1,2", "1,2"),
    ],
)
def test_a_value_written_to_a_loaded_module_is_stored_as_it_was_given(
    lkm: Any, machine: str, name: str, value: str, shown: str
) -> None:
    assert lkm("insmod", "-m", machine, str(PARAMS)).returncode == 0
    done = lkm("param", "-m", machine, "params", name, value)
    assert (done.stdout, done.stderr) == (f"{shown}\n", "")


def test_the_library_refuses_a_value_before_a_machine_is_made() -> None:
    def machine(_: str) -> NoReturn:
        pytest.fail("a machine was made")

    with pytest.raises(UsageError, match="p_byte does not take '256'"):
        run.run(Path(PARAMS), store.get(), run.Rig(machine), params={"p_byte": "256"})
