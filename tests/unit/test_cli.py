"""The command line itself: what it takes, what it says when that is wrong, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lkm import cli, errors
from lkm.cli import run as run_verb
from lkm.problems import ProblemKind


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in cli.VERBS)])
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]) -> None:
    code, out, err = outcome(capsys, *verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(" ".join(("usage: lkm", *verb)))


def test_a_mistyped_verb_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = outcome(capsys, "insmdo")
    assert code == 2
    assert "hint: lkm insmod" in err


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "x", "--timeout", "soon"),
        ("run", "x", "--nope"),
        ("kernel",),
        ("-q",),
        ("param",),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_hint(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = outcome(capsys, *words)
    assert (code, out) == (2, "")
    assert "hint: " in err


def test_a_kernel_that_a_source_excludes_is_no_failure() -> None:
    assert run_verb._exit_code("excluded") == 0


def test_options_may_stand_among_the_parameters() -> None:
    arguments = cli.parse("run", ["src", "-k", "6.1", "a=1", "--json", "b=2"])
    assert (arguments.source, arguments.params) == ("src", ["a=1", "b=2"])
    assert (arguments.kernel, arguments.json) == ("6.1", True)


def test_an_error_with_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "run", "/nowhere/at-all", "--json", "--timeout", "-1")
    assert code == 2
    document = json.loads(out)
    assert document["error"]["type"] == "UsageError"
    assert document["error"]["summary"] in err


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.HostError("x"), 3),
        (errors.BuildError("x"), 4),
        (errors.MachineError("x", stage="boot"), 5),
        (errors.LoadError("m", 8), 1),
        (KeyboardInterrupt(), 130),
        (NotADirectoryError(20, "Not a directory", "/x"), 3),
        (ZeroDivisionError("a bug"), 5),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
) -> None:
    def main(_: object) -> int:
        raise raised

    monkeypatch.setattr(run_verb, "main", main)
    assert cli.main(["run", "x"]) == code
    assert capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_completion_script_knows_every_verb(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    code, out, _ = outcome(capsys, "completion", shell)
    assert code == 0
    assert [verb for verb in cli.VERBS if verb not in out] == []


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("6.", "6.1 6.1.0-50-cloud-amd64 6.12 6.12.1+deb13-amd64"),
        ("6.1,new", "6.1,newest"),
        ("6.1..6.12.", "6.1..6.12.1+deb13-amd64"),
        ("5.1", ""),
    ],
)
def test_bash_completes_names_of_kernels_in_lists_and_ranges(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, word: str, offered: str
) -> None:
    for release in ("6.1.0-50-cloud-amd64", "6.12.1+deb13-amd64"):
        (tmp_path / "kernels" / release).mkdir(parents=True)
    script = tmp_path / "lkm.bash"
    script.write_text(outcome(capsys, "completion", "bash")[1])
    asked = f"COMP_WORDS=(lkm matrix demo --kernels {word}); COMP_CWORD=4; _shtab_lkm"
    done = subprocess.run(
        ["bash", "-c", f'. {script}; {asked}; echo "${{COMPREPLY[@]}}"'],
        env={**os.environ, "LKM_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == offered.split()


# Kinds of problem


def test_a_kind_of_problem_is_explained_in_any_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "explain", "LEFT_behind")
    assert code == 0
    assert out.startswith("left-behind\n\nWhat it means\n")
    assert "left /proc/leaves_proc behind" in out
    assert "](" not in out


def test_all_kinds_of_problem_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = outcome(capsys, "explain")
    assert [kind for kind in ProblemKind if f"{kind} " not in out] == []


def test_a_kind_of_problem_that_there_is_not_is_refused_with_one_that_is_near(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = outcome(capsys, "explain", "soft-lokup")
    assert code == 2
    assert "'soft-lokup'" in err
    assert "hint: lkm explain soft-lockup" in err
