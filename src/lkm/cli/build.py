"""Build a module source with the kernel's own Kbuild, in a sandbox without network.

The .ko files, Module.symvers, compile_commands.json and build.log go to DIR/build/RELEASE. A directory with a
dkms.conf is built as dkms builds it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm.cli.common import add_json, add_kernel, kernel_named
from lkm.cli.render import Style, in_seconds, print_json, size, visible, working
from lkm.errors import ExcludedError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm build` takes."""
    parser.add_argument(
        "source",
        metavar="DIR",
        nargs="?",
        default=".",
        help="a directory, a .c file, or a Debian package: NAME-dkms[@SUITE] (default: .)",
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
    from lkm.kernels.dkms import located

    with working(quiet=arguments.json) as progress:
        path = located(arguments.source, progress=progress)
        kernel = kernel_named(arguments.kernel, progress)
        try:
            done = kbuild.build(
                source.find(path),
                kernel,
                extra_flags=arguments.flags,
                progress=progress,
                output=arguments.output,
            )
        except ExcludedError as error:
            return _excluded(arguments, kernel.release, error)
    if arguments.json:
        print_json(
            {
                "schema": 1,
                "kernel": done.release,
                "excluded": None,
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


def _excluded(arguments: argparse.Namespace, release: str, error: ExcludedError) -> int:
    if arguments.json:
        print_json(
            {
                "schema": 1,
                "kernel": release,
                "excluded": error.reason,
                "cached": False,
                "seconds": 0,
                "log": None,
                "objects": [],
                "diagnostics": [],
            }
        )
    else:
        print(f"{Style(sys.stdout).yellow('excluded')}: {visible(error.summary)}")
    return 0


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
