"""The kernels on this disk: list them, fetch one, remove one, or say where its files are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, kernel_named
from lkm.cli.render import Style, print_json, size, table, working
from lkm.errors import LkmError, UsageError

if TYPE_CHECKING:
    from lkm.garbage import Garbage
    from lkm.kernels import Kernel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm kernel` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the kernels on this disk")
    listing.add_argument("--available", action="store_true", help="what can be fetched")
    listing.add_argument("--refresh", action="store_true", help="ask the archive anew first")
    fetch = actions.add_parser("fetch", help="fetch kernels, verified by apt")
    fetch.add_argument(
        "names",
        metavar="K",
        nargs="*",
        help="6.1, 6.1..7.2, all, debian:trixie, a full release, a glob (default: the default)",
    )
    remove = actions.add_parser("rm", help="remove kernels and what belongs to them")
    remove.add_argument("names", metavar="RELEASE", nargs="+", help="a release, as `list` shows it")
    gc = actions.add_parser("gc", help="remove what is not used any more")
    gc.add_argument(
        "--days",
        type=float,
        metavar="N",
        help="what was not used for N days goes (default: 30)",
    )
    gc.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="K",
        help="a kernel that stays: 6.1, a full release, a glob",
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    path = actions.add_parser("path", help="where a kernel's files are")
    path.add_argument("names", metavar="K", nargs="?", help="a kernel (default: the default)")
    for action in (listing, fetch, gc, path):
        add_json(action)


def main(arguments: argparse.Namespace) -> int:
    """`lkm kernel`."""
    actions = {"list": _list, "fetch": _fetch, "rm": _remove, "gc": _gc, "path": _path}
    return actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    if arguments.available or arguments.refresh:
        return _available(arguments)
    from lkm.kernels import store

    kernels = store.installed()
    if arguments.json:
        print_json({"schema": 1, "kernels": [store.describe(kernel) for kernel in kernels]})
        return 0
    rows = [
        (k.release, k.arch.name, k.suite or k.provider, k.toolchain.cc, size(k.disk_bytes or 0))
        for k in kernels
    ]
    for line in table(rows, ("RELEASE", "ARCH", "FROM", "COMPILER", "SIZE"), Style(sys.stdout)):
        print(line)
    for damage in store.damaged():
        print(f"{damage.path.name}: not believed: {damage.reason}", file=sys.stderr)
    if not kernels:
        print("none yet: lkm kernel fetch", file=sys.stderr)
    return 0


def _available(arguments: argparse.Namespace) -> int:
    from lkm.kernels import catalog, store

    with working(quiet=arguments.json) as progress:
        offers = sorted(
            catalog.available(force=arguments.refresh, progress=progress),
            key=lambda offer: (catalog.version_key(offer.release), offer.suite),
        )
    here = {kernel.release for kernel in store.installed()}
    if arguments.json:
        rows = [
            {
                "release": o.release,
                "suite": o.suite,
                "flavour": o.flavour,
                "version": o.version,
                "on_disk": o.release in here,
            }
            for o in offers
        ]
        print_json({"schema": 1, "kernels": rows})
        return 0
    lines = [
        (o.release, o.suite, o.flavour, o.version, "yes" if o.release in here else "")
        for o in offers
    ]
    for line in table(lines, ("RELEASE", "SUITE", "FLAVOUR", "VERSION", "HERE"), Style(sys.stdout)):
        print(line)
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from lkm.cli.board import board
    from lkm.kernels import selection, several, store

    names: tuple[str | None, ...] = (None,)
    with working(quiet=arguments.json) as progress:
        if arguments.names:
            names = selection.select(",".join(arguments.names), progress=progress)
    with board(quiet=arguments.json) as rows:
        found = several.fetch(names, board=rows)
    kernels = [kernel for kernel in found if not isinstance(kernel, LkmError)]
    errors = [error for error in found if isinstance(error, LkmError)]
    if errors:
        _tell_the_others(kernels, errors[1:], to_stdout=not arguments.json)
        raise errors[0]
    if arguments.json:
        print_json({"schema": 1, "kernels": [store.describe(kernel) for kernel in kernels]})
    else:
        _tell_the_others(kernels, (), to_stdout=True)
    return 0


def _tell_the_others(
    kernels: Sequence[Kernel], errors: Sequence[LkmError], *, to_stdout: bool
) -> None:
    """What came, and what else went wrong: one kernel that cannot be had does not keep the others."""
    for kernel in kernels:
        stream = sys.stdout if to_stdout else sys.stderr
        print(f"{kernel.release}  {size(kernel.disk_bytes or 0)}", file=stream)
    for error in errors:
        print(f"lkm: {error}", file=sys.stderr)


def _remove(arguments: argparse.Namespace) -> int:
    from lkm.kernels import store
    from lkm.vm import snapshot

    for name in arguments.names:
        freed = store.remove(name) + snapshot.remove(name)
        print(f"removed {name}, {size(freed)} freed")
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from lkm import garbage

    limit = garbage.DAYS if arguments.days is None else arguments.days
    if not 0 <= limit < float("inf"):
        raise UsageError(f"--days {limit:g}", hint="give days, 0 or more")
    with working(quiet=arguments.json) as progress:
        progress.step("looking for what is not used")
        found = garbage.find(limit, keep=arguments.keep)
        gone, busy = (found, []) if arguments.dry_run else garbage.remove(found)
    freed = sum(each.disk_bytes for each in gone)
    if arguments.json:
        print_json(
            {
                "schema": 1,
                "dry_run": arguments.dry_run,
                "removed": [_garbage(each) for each in gone],
                "busy": [_garbage(each) for each in busy],
                "freed": freed,
            }
        )
        return 0
    rows = [(each.what, each.why, size(each.disk_bytes)) for each in gone]
    for line in table(rows, ("REMOVED", "WHY", "SIZE"), Style(sys.stdout)) if rows else ():
        print(line)
    for each in busy:
        print(f"{each.what}: another lkm is busy with it", file=sys.stderr)
    print(f"{size(freed)} {'would be freed' if arguments.dry_run else 'freed'}")
    return 0


def _garbage(each: Garbage) -> dict[str, object]:
    return {
        "path": str(each.path), "what": each.what, "why": each.why, "disk_bytes": each.disk_bytes,
    }  # fmt: skip


def _path(arguments: argparse.Namespace) -> int:
    from lkm.kernels import store

    with working(quiet=arguments.json) as progress:
        facts = {"schema": 1, **store.describe(kernel_named(arguments.names, progress))}
    if arguments.json:
        print_json(facts)
        return 0
    for name, value in facts.items():
        if value is not None and name != "schema":
            print(f"{name}: {value}")
    return 0
