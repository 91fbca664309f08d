"""Remove what lkm built for a source: DIR/build and its work trees. The source is left as it was."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm clean` takes."""
    parser.add_argument(
        "source",
        metavar="DIR",
        nargs="?",
        default=".",
        help="a directory or a .c file (default: .)",
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm clean`."""
    from lkm import kbuild, source

    for path in kbuild.clean(source.find(arguments.source)):
        print(f"removed {path}")
    return 0
