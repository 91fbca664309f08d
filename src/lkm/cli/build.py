"""Build a module source with the kernel's own Kbuild, in a sandbox without network.

The .ko files, Module.symvers, compile_commands.json and build.log go to DIR/build/RELEASE.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm.cli.common import add_json, add_kernel, kernel_named
from lkm.cli.render import Style, in_seconds, print_json, size, visible, working


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm build` takes."""
    parser.add_argument(
        "source",
        metavar="DIR",
        nargs="?",
        default=".",
        help="a directory or a .c file (default: .)",
    )
    parser.add_argument(
        "flags",
        metavar="FLAG",
        nargs="*",
        help="make variables and compiler flags: W=1, -- -DDEBUG",
    )
    add_kernel(parser)
    add_json(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="put the artifacts in DIR/RELEASE"
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm build`."""
    from lkm import kbuild, source

    with working(quiet=arguments.json) as progress:
        kernel = kernel_named(arguments.kernel, progress)
        done = kbuild.build(
            source.find(arguments.source),
            kernel,
            extra_flags=arguments.flags,
            progress=progress,
            output=arguments.output,
        )
    if arguments.json:
        print_json(
            {
                "schema": 1,
                "kernel": done.release,
                "cached": done.cached,
                "seconds": round(done.seconds, 4),
                "log": str(done.log_path),
                "objects": [
                    {"name": o.name, "path": str(o.path), "size": o.size}
                    for o in done.objects.values()
                ],
                "diagnostics": [diagnostic.to_dict() for diagnostic in done.diagnostics],
            }
        )
        return 0
    style = Style(sys.stdout)
    for diagnostic in done.diagnostics:
        print(visible("\n".join(diagnostic.lines)))
    for made in done.objects.values():
        print(f"{_short(made.path)}  {style.dim(size(made.size))}")
    how = "unchanged" if done.cached else f"built in {in_seconds(done.seconds)}"
    print(style.dim(f"{how} for {done.release}"))
    return 0


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
