"""The pages say what the program does: verbs, options, exit codes, JSON, links and commands."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.unit import problem_blocks

from lkm import errors, loadcheck
from lkm.arch import X86_64
from lkm.cli import VERBS, build_parser, parse
from lkm.config import Config
from lkm.kbuild import LIMITS, Diagnostic
from lkm.kernels import store
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.kernels.suites import SUITES
from lkm.ko import Export, KernelObject, Parameter, Signature, describe
from lkm.loadcheck import Finding, Report, Severity
from lkm.log import LEVELS, Record
from lkm.machine import LoadedModule
from lkm.matrix.bisect import Border
from lkm.matrix.excerpt import excerpt
from lkm.matrix.group import Group
from lkm.matrix.outcome import CellResult, State
from lkm.matrix.plan import Plan
from lkm.matrix.report import Report as MatrixReport
from lkm.matrix.suite import counted
from lkm.prediction import Checked
from lkm.problems import Frame, Problem, ProblemKind, Process, Source
from lkm.run import Run
from lkm.signing import Key, Signed
from lkm.symbolize import Place
from lkm.verdict import ModuleRun, Timings, Verdict
from lkm.vm.config_check import boot_module_names
from lkm.vm.named import Named

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    text = (REFERENCE / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of a section's tables, cell by cell, without the headers."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in rows if row[0].startswith("`")]


def names(page: str, heading: str) -> list[str]:
    return [row[0].strip("`") for row in table(page, heading)]


# The command line


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb's parser, and every action's of a verb that has some."""
    waiting = [("lkm", build_parser())]
    while waiting:
        name, parser = waiting.pop()
        nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        waiting += [(f"{name} {n}", p) for a in nested for n, p in a.choices.items()]
        if name != "lkm":
            yield name, parser


def rows_of(parser: argparse.ArgumentParser) -> list[list[str]]:
    """What the page has to say of a parser's arguments: their spellings, and the help's own words."""
    formatter = parser._get_formatter()
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        value = (
            ""
            if action.nargs == 0
            else f" {action.metavar or '{' + ','.join(action.choices or ()) + '}'}"
        )
        spellings = [f"`{name}{value}`" for name in action.option_strings] or [f"`{value.strip()}`"]
        rows.append([", ".join(spellings).replace("|", "\\|"), formatter._expand_help(action)])
    return rows


@pytest.mark.parametrize(
    ("name", "parser"), [*parsers()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_argument_is_on_the_page_in_the_helps_words(
    name: str, parser: argparse.ArgumentParser
) -> None:
    expected = rows_of(parser)
    lines = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    assert table("cli.md", name) == expected, f"cli.md, {name}, should have\n{lines}"


def test_no_verb_is_on_the_page_that_is_not_in_the_program() -> None:
    headings = re.findall(r"^#+ (lkm .*)$", (REFERENCE / "cli.md").read_text(), re.M)
    assert sorted(headings) == sorted(name for name, _ in parsers())


def test_the_list_of_verbs_is_the_programs() -> None:
    assert table("cli.md", "Verbs") == [[f"`{verb}`", text] for verb, text in VERBS.items()]


def test_every_environment_variable_is_on_the_page() -> None:
    used = {
        name
        for path in (ROOT / "src" / "lkm").rglob("*.py")
        for name in re.findall(r"\bLKM_[A-Z_]+\b", path.read_text())
    }
    assert {n for n in names("cli.md", "Environment variables") if n.startswith("LKM_")} == used


def test_every_key_of_the_configuration_is_on_the_page() -> None:
    assert names("cli.md", "Configuration file") == [field.name for field in fields(Config)]


# Exit codes


PUBLIC: dict[str, type[errors.LkmError]] = {
    name: member
    for name, member in vars(errors).items()
    if name in errors.__all__ and isinstance(member, type) and issubclass(member, errors.LkmError)
}


def test_each_error_is_documented_with_its_exit_code() -> None:
    rows = table("exit-codes.md", "Errors")
    assert {row[0].strip("`"): int(row[1]) for row in rows} == {
        name: error.exit_code for name, error in PUBLIC.items()
    }


def test_the_table_of_exit_codes_has_each_code_that_an_error_has() -> None:
    codes = {int(name) for name in names("exit-codes.md", "Exit codes")}
    assert codes == {0, *(error.exit_code for error in PUBLIC.values()), 129, 130, 141, 143}


# JSON


TOOLS = Toolchain("trixie", Path("/"), "gcc-14", "0")
KERNEL = Kernel(
    "6.12.1", X86_64, "debian", Path("/i"), "/b", (), Path("/c"), TOOLS, "0"
)  # fmt: skip
FRAME = Frame("f", 1, 2, "m", reliable=True, places=(Place("f", "a.c", 1),))
PROBLEM = Problem(
    ProblemKind.OOPS, "BUG", "f", "m", None, None, 1, 2, None, Process("init", 1), "", (FRAME,), (0, 1),
    fault=FRAME, source=Source("a.c", 1, 1, ("line",)),
)  # fmt: skip
MODULE = ModuleRun(
    "m",
    Verdict.PROBLEM,
    log=(Record(1, 0.5, "info", 0, "m: init"),),
    problems=(PROBLEM,),
    timings=Timings(load=0.1),
)
RUN = Run(KERNEL, (MODULE,)).to_dict()
MATRIX = MatrixReport(Plan((), ()), (CellResult("m", "6.12.1", "", "ok"),), 0.1).to_dict()
OBJECT = describe(KernelObject("m", "EM_X86_64", 64, parameters=(Parameter("p"),)))

KEY = Key(Path("k"), Path("c"))
SIGNATURE = Signature("PKCS#7", None, None, None, None, None, 1)


def keys_of(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("lkm run --json", list(RUN)),
        ("A module", list(RUN["modules"][0])),
        ("A record", list(RUN["modules"][0]["log"][0])),
        ("A problem", list(RUN["modules"][0]["problems"][0])),
        ("A frame", list(RUN["modules"][0]["problems"][0]["trace"][0])),
        ("A place", list(RUN["modules"][0]["problems"][0]["fault"]["places"][0])),
        ("A source", list(RUN["modules"][0]["problems"][0]["source"])),
        ("A process", list(RUN["modules"][0]["problems"][0]["process"])),
        ("The timings", list(RUN["modules"][0]["timings"])),
        ("A kernel", list(store.describe(KERNEL))),
        ("A machine", list(Named("n", Path("/"), 1, "6", 0.0, 128, "6").to_dict())),
        ("A loaded module", keys_of(LoadedModule)),
        ("A diagnostic", list(Diagnostic(None, None, None, "error", "t").to_dict())),
        ("lkm modinfo --json", ["schema", "filename", *OBJECT]),
        ("A declared parameter", list(OBJECT["parameters"][0])),
        ("An export", keys_of(Export)),
        ("lkm sign --json", list(Signed(Path("m.ko"), "6.12.1", KEY, SIGNATURE).to_dict())),
        ("A signature", keys_of(Signature)),
        ("lkm check --json", ["schema", "checks"]),
        ("lkm matrix --json", list(MATRIX)),
        ("A cell", list(MATRIX["cells"][0])),
        ("An excerpt", list(excerpt(__file__, 1) or ())),
        ("The tests", list(counted(b"<testsuites/>"))),
        ("A group", keys_of(Group)),
        ("lkm bisect --json", ["schema", *keys_of(Border)]),
        ("A check", list(Checked(Path("m.ko"), Report("m", "6.12.1")).to_dict())),
        ("A finding", list(Finding("what", "why").to_dict())),
    ],
)
def test_the_fields_of_a_json_document_are_on_the_page(heading: str, keys: list[str]) -> None:
    assert names("json.md", heading) == keys


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("Verdicts", [verdict.value for verdict in Verdict]),
        ("Kinds of problem", [kind.value for kind in ProblemKind]),
        ("Levels", list(LEVELS)),
        ("States of a cell", [state.value for state in State]),
        ("Predictions", [verdict.value for verdict in loadcheck.Verdict]),
        ("Severities", [severity.value for severity in Severity]),
    ],
)
def test_the_values_of_an_enumeration_are_on_the_page(heading: str, values: list[str]) -> None:
    assert names("json.md", heading) == values


# Facts on other pages


def test_the_suites_on_the_page_are_those_in_the_program() -> None:
    (line,) = re.findall(r"^Suites: ([^.]+)\.", section("cli.md", "Names of kernels"), re.M)
    assert line.split(", ") == [suite.name for suite in SUITES]


def test_the_options_that_a_guest_needs_are_on_the_page() -> None:
    page = (ROOT / "docs" / "how-to" / "own-kernel-tree.md").read_text()
    with pytest.raises(errors.UsageError) as refusal:
        boot_module_names("6.12", {})
    needed = re.findall(r"CONFIG_\w+", refusal.value.summary)
    assert needed == [name for name in re.findall(r"CONFIG_\w+", page) if name in needed]


def test_the_limits_of_a_build_are_on_the_page() -> None:
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    said = (
        f"{LIMITS.seconds:g} s",
        f"{LIMITS.processes} processes",
        f"{LIMITS.memory >> 30} GiB of address space",
        f"{LIMITS.file >> 30} GiB a file",
        f"{LIMITS.disk >> 30} GiB on disk",
        f"{LIMITS.output >> 20} MiB of output",
    )
    (row,) = (line for line in page.splitlines() if "never ends" in line)
    assert all(words in row for words in said)


# All pages


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings give, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks, fenced or indented, without prompts."""
    for block in re.findall(r"^```(?:console|sh)\n(.*?)^```", page.read_text(), re.M | re.S):
        yield from (line.strip().removeprefix("$ ") for line in block.splitlines())
    yield from re.findall(r"^    (\S.*)$", page.read_text(), re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `lkm` command in a page's code, up to a pipe or the like."""
    for line in code(page):
        if not re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?lkm ", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if re.fullmatch(r"[();<>|&]+", word):
                if words[1:] and words[0].rpartition("/")[2] == "lkm":
                    yield words[1:]
                words = []
            elif words or not re.match(r"[A-Z_]+=", word):
                words.append(word)


ALL_COMMANDS = [
    (title(page), words)
    for page in PAGES
    if page.parent != REFERENCE  # where arguments stand for themselves
    for words in commands(page)
]


def test_the_pages_have_commands() -> None:
    assert len(ALL_COMMANDS) > 30


@pytest.mark.parametrize(("page", "words"), ALL_COMMANDS, ids=lambda value: str(value)[:40])
def test_a_command_on_a_page_is_one_that_the_program_takes(page: str, words: list[str]) -> None:
    if words in (["--help"], ["--version"]):
        return
    if "--help" not in words:
        parse(words[0], words[1:])  # a word that it does not take raises


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_script_that_a_page_names_is_there(page: Path) -> None:
    for name in re.findall(r"\bscripts/[a-z]+\b", page.read_text()):
        assert (ROOT / name).exists(), name


# Pages about problems


@pytest.mark.parametrize("kind", ProblemKind)
def test_each_kind_of_problem_has_its_page_and_is_in_the_list(kind: ProblemKind) -> None:
    page = (ROOT / "docs" / "problems" / f"{kind}.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.M)
    assert headings == [
        kind.value,
        "What it means",
        "What usually causes it",
        "How lkm shows it",
    ]
    index = (ROOT / "docs" / "problems" / "README.md").read_text()
    assert f"| [`{kind}`]({kind}.md) |" in index


BLOCK = re.compile(
    r"```text\n(?P<block>.*?)```\n\n"
    r"From `tests/data/modules/(?P<module>\w+)\.c` with `what=(?P<what>\w+)` on (?P<on>.*?)\.\n",
    re.S,
)
MADE_OF_LOGS = {
    page.stem: found
    for page in sorted((ROOT / "docs" / "problems").glob("*.md"))
    if page.stem not in ("left-behind", "README") and (found := BLOCK.search(page.read_text()))
}


@pytest.mark.parametrize("kind", MADE_OF_LOGS)
def test_what_a_page_shows_of_a_problem_is_what_lkm_makes_of_the_log(kind: str) -> None:
    found = MADE_OF_LOGS[kind]
    series = "debug" if found["on"] == "the debug kernel" else found["on"]
    assert found["block"] == problem_blocks.block(found["module"], found["what"], series, kind)


def test_most_pages_show_what_lkm_makes_of_a_captured_log() -> None:
    assert len(MADE_OF_LOGS) >= 22
