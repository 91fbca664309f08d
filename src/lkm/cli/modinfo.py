"""What a kernel object says about itself, as modinfo(8) shows it; nothing in it is executed."""

from __future__ import annotations

import argparse
import sys

from lkm.cli.common import add_json, add_kernel, kernel_named
from lkm.cli.render import print_json, working


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm modinfo` takes."""
    parser.add_argument(
        "module", metavar="FILE|NAME", help="a .ko (also .xz, .zst, .gz), or a kernel's own module"
    )
    parser.add_argument(
        "-F", "--field", metavar="FIELD", help="only this field's values, one a line"
    )
    parser.add_argument(
        "-0", "--null", action="store_true", help="a NUL instead of a newline after each"
    )
    parser.add_argument("-p", "--parameters", action="store_true", help="only the parameters")
    add_kernel(parser)
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm modinfo`."""
    from lkm import ko
    from lkm.ko import modinfo

    path = _path(arguments)
    module = ko.read(path)
    if arguments.json:
        print_json({"schema": 1, "filename": path, **module.to_dict()})
        return 0
    field = "parm" if arguments.parameters else arguments.field
    separator = "\0" if arguments.null else "\n"
    sys.stdout.write(modinfo.render(module, path, field=field, separator=separator))
    return 0


def _path(arguments: argparse.Namespace) -> str:
    from pathlib import Path

    from lkm.kernels.modules import find

    name: str = arguments.module
    if "/" in name or ".ko" in name or Path(name).exists():
        return str(Path(name).absolute())
    with working(quiet=arguments.json) as progress:
        return str(find(kernel_named(arguments.kernel, progress), name))
