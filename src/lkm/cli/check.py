"""Say whether a kernel would load a module, and if not exactly why, without loading anything.

SOURCE is a directory, a .c file or a .ko, also a damaged one. A source is built first. What a module depends on
is taken to be loaded before it, as `lkm run` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, kernel_named
from lkm.cli.render import Style, print_json, visible, working

if TYPE_CHECKING:
    from lkm.loadcheck.findings import Finding, Report
    from lkm.prediction import Checked

_SHOWN = 12
"""Findings of a report that people get to see; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm check` takes."""
    parser.add_argument("source", metavar="SOURCE", help="a directory, a .c file or a .ko")
    parser.add_argument(
        "-k",
        "--kernel",
        metavar="K",
        action="append",
        help="a kernel, as for `lkm run`; several with commas between them, or with several -k",
    )
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm check`."""
    from lkm.kernels import store
    from lkm.loadcheck.findings import Verdict
    from lkm.prediction import check_path

    checked: list[Checked] = []
    with working(quiet=arguments.json) as progress:
        others = store.installed()
        for name in _names(arguments.kernel):
            kernel = kernel_named(name, progress)
            checked += check_path(arguments.source, kernel, others=others, progress=progress)
    if arguments.json:
        print_json({"schema": 1, "checks": [each.to_dict() for each in checked]})
    else:
        style = Style(sys.stdout)
        for each in checked:
            print("\n".join(_told(each, style)))
    return 0 if all(each.report.verdict is Verdict.OK for each in checked) else 1


def _names(given: Sequence[str] | None) -> Iterator[str | None]:
    """Each kernel's name once; only a tree's path may have a comma in it."""
    names = [
        name
        for word in given or ()
        for name in ([word] if word.startswith("tree:") else word.split(","))
        if name
    ]
    yield from dict.fromkeys(names) or [None]


def _told(checked: Checked, style: Style) -> Iterator[str]:
    report = checked.report
    yield f"{visible(checked.path.name)} on {report.kernel}: {_verdict(report, style)}"
    yield from _listed(report.findings, "  ", style)
    if report.beyond:
        yield "  and of the symbols that it uses now:"
        yield from _listed(report.beyond, "    ", style)


def _verdict(report: Report, style: Style) -> str:
    from lkm.errors import errno_name

    if report.errno:
        return style.red(f"refused, {errno_name(report.errno)}")
    if report.verdict == "unknown":
        return style.yellow("not to be foretold")
    after = f", after {', '.join(report.loaded)}" if report.loaded else ""
    return style.green("loads") + after


def _listed(findings: Sequence[Finding], indent: str, style: Style) -> Iterator[str]:
    for finding in findings[:_SHOWN]:
        yield f"{indent}{style.bold(visible(finding.what))}: {visible(finding.why)}"
        yield from (style.dim(f"{indent}  {visible(line)}") for line in finding.dmesg)
        if finding.hint:
            yield f"{indent}  hint: {visible(finding.hint)}"
    if len(findings) > _SHOWN:
        yield f"{indent}and {len(findings) - _SHOWN} more; --json has them all"
