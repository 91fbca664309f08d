"""The tables of interpose/ held against the sources of kernels.

    .venv/bin/python -m bench.tables 5.10=DIR 6.1=DIR 6.12=DIR 7.3=DIR [--write]

DIR is an unpacked tree, as of Debian's linux-source-6.12. What is printed is, for each series: functions whose
definition was not found, or is in another file than the table says, or was not seen to return the failure that
the table has. The exit code is 1 if there is any. --write renews tests/data/interpose/prototypes.txt, to which
tests/unit/test_interpose_tables.py holds the arguments. A tree takes about 30 seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.c_source import Function, Tree
from lkm.interpose.fallible import FALLIBLE, fallible
from lkm.interpose.pairs import FAMILIES
from lkm.interpose.rules import Fail

DATA = Path(__file__).parents[1] / "tests" / "data" / "interpose"
RETURNS_A_COUNT = (Fail.COPY, Fail.COPY_ZEROED, Fail.CLEAR)
READ_BY_HAND = {
    "__xa_alloc": "xas_error() of what xas_nomem() could not do",
    "__xa_alloc_cyclic": "calls __xa_alloc()",
    "__xa_insert": "xas_error() of what xas_nomem() could not do",
    "xa_store": "xas_result(): XA_ERROR() as an entry, which is no ERR_PTR()",
    "alloc_pages_exact": "make_alloc_exact() of the address 0",
    "alloc_pages_exact_noprof": "make_alloc_exact() of the address 0",
    "devm_clk_get": "clk_get(), through a pointer",
    "wait_for_completion_timeout": "do_wait_for_common(): `timeout`, which has become 0",
    "__folio_alloc": "__alloc_pages() in 6.1, cast",
    "folio_alloc": "__alloc_pages() in 6.1, cast",
    "kmemdup": "kmalloc_track_caller(), a macro",
    "krealloc": "__do_krealloc(): kmalloc_track_caller(), a macro",
    "krealloc_noprof": "__do_krealloc(): kmalloc_node_track_caller_noprof(), a macro",
    "krealloc_node_align_noprof": "__do_krealloc(): kmalloc_node_track_caller_noprof(), a macro",
    "bitmap_alloc": "kmalloc_array(), a macro",
    "bitmap_alloc_node": "kmalloc_array_node(), a macro",
    "bitmap_zalloc": "bitmap_alloc()",
    "bitmap_zalloc_node": "bitmap_alloc_node()",
    "gen_pool_create": "kmalloc_node(), a macro",
    "devm_request_threaded_irq": "devm_request_result() of request_threaded_irq()",
    "devm_request_any_context_irq": "devm_request_result() of request_any_context_irq()",
    "kmem_cache_alloc_bulk_noprof": "false, from 7.3 on a bool",
}
"""What the scan does not see, and where a reader saw it."""


def exported() -> dict[str, list[str]]:
    """The series whose Module.symvers has a name of the tables."""
    lines = (DATA / "exported.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def names_of(series: str) -> list[str]:
    """What the tables have of a series."""
    takes = {take.name for family in FAMILIES for take in family.takes}
    gives = {give.name for family in FAMILIES for give in family.gives}
    known = exported()
    return sorted(name for name in takes | gives | {*FALLIBLE} if series in known.get(name, ()))


def disagreements(tree: Tree, series: str) -> Iterator[str]:
    """One line for each."""
    major, minor = map(int, series.split("."))
    for name in names_of(series):
        found = tree.exported(name)
        how = fallible(name, (major, minor))
        if found is None:
            yield f"{name}: no definition found"
        elif how and how.fail not in RETURNS_A_COUNT and name not in READ_BY_HAND:
            outcomes = tree.outcomes(found)
            if how.failure not in outcomes:
                seen = ", ".join(sorted(outcomes)) or "nothing"
                yield f"{name}: {how.failure} was not seen to be returned ({seen} was)"


def prototypes(trees: dict[str, Tree]) -> str:
    """A line for each form of a function: its name, the series that have it so, the file, the prototype."""
    forms: dict[tuple[str, str, str], list[str]] = {}
    for series, tree in trees.items():
        for name in names_of(series):
            if found := tree.exported(name):
                forms.setdefault((name, found.file, _plain(found)), []).append(series)
    rows = (
        f"{name}\t{','.join(series)}\t{file}\t{text}\n"
        for (name, file, text), series in sorted(forms.items())
    )
    return "".join(rows)


def _plain(function: Function) -> str:
    return function.prototype.replace(" * ", " *")


def misplaced(text: str) -> Iterator[str]:
    """Functions that no series defines where the table says."""
    files: dict[str, set[str]] = {}
    for line in text.splitlines():
        name, _, file, _ = line.split("\t")
        files.setdefault(name, set()).add(file)
    for name, ways in FALLIBLE.items():
        for each in ways:
            if each.source not in files.get(name, {each.source}):
                yield f"{name}: in {', '.join(sorted(files[name]))}, not in {each.source}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", metavar="SERIES=DIR", nargs="+")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    trees = {text.split("=")[0]: Tree(Path(text.split("=", 1)[1])) for text in arguments.trees}
    wrong = [
        f"{series} {line}" for series, tree in trees.items() for line in disagreements(tree, series)
    ]
    made = prototypes(trees)
    wrong += misplaced(made)
    print("\n".join(wrong) or f"{len(FALLIBLE)} functions that fail: none disagrees")
    if arguments.write:
        (DATA / "prototypes.txt").write_text(made)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
