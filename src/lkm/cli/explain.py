"""What a kind of problem means, what usually causes it, and how it is shown: its page of docs/problems.

Without KIND: all kinds, a line each.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lkm import problems
from lkm.cli.render import Style
from lkm.errors import UsageError
from lkm.problems import ProblemKind

_PAGES = Path(problems.__file__).with_name("pages")
_WIDEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm explain` takes."""
    parser.add_argument(
        "kind",
        metavar="KIND",
        nargs="?",
        type=_kind,
        choices=[kind.value for kind in ProblemKind],
        help="oops, WARNING, left-behind, ...; in any case of letters",
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm explain`."""
    style = Style(sys.stdout)
    lines = _page(arguments.kind, style) if arguments.kind else _list(style)
    print("\n".join(lines))
    return 0


def _kind(word: str) -> str:
    known = {kind.value.casefold(): kind.value for kind in ProblemKind}
    asked = re.sub(r"[ _]", "-", word).casefold()
    if asked not in known:
        near = difflib.get_close_matches(asked, known, n=1)
        hint = f"lkm explain {known[near[0]]}" if near else "lkm explain lists them"
        raise UsageError(f"no kind of problem is called {word!r}", hint=hint)
    return known[asked]


def _list(style: Style) -> Iterator[str]:
    """A line a kind, by the table of the pages' README."""
    rows = re.findall(r"^\| \[`(\S+)`\]\(\S+\) \| (.*) \|$", _read("README"), re.M)
    width = max(len(kind) for kind, _ in rows)
    room = _width() - width - 2
    for kind, text in rows:
        first, *others = textwrap.wrap(_plain(text), room)
        yield f"{style.bold(kind)}{' ' * (width - len(kind))}  {first}"
        yield from (" " * (width + 2) + line for line in others)


def _page(kind: str, style: Style) -> Iterator[str]:
    """The page for a terminal: headings bold, paragraphs to its width, blocks as they are."""
    for number, part in enumerate(_read(kind).rstrip("\n").split("```")):
        if number % 2:
            _, _, block = part.partition("\n")
            yield from textwrap.indent(block.rstrip("\n"), "  ").split("\n")
            yield ""
            continue
        lines = part.strip("\n").split("\n")
        yield from (row for line in lines for row in _line(line, style))
        if not number:
            yield ""


def _line(line: str, style: Style) -> list[str]:
    if heading := re.match(r"#+ (.*)", line):
        return [style.bold(heading[1])]
    return textwrap.wrap(_plain(line), _width(), break_long_words=False) or [""]


def _plain(text: str) -> str:
    """Markdown's text without the targets of its links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _read(name: str) -> str:
    return (_PAGES / f"{name}.md").read_text("utf-8")


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 0)).columns)
