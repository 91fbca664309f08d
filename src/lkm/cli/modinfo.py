"""What a kernel object says about itself, as modinfo(8) shows it; nothing in it is executed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, add_kernel, kernel_named
from lkm.cli.render import print_json, visible, working

if TYPE_CHECKING:
    from lkm.ko import KernelObject


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

    path = _path(arguments)
    module = ko.read(path)
    if arguments.json:
        print_json({"schema": 1, "filename": path, **ko.describe(module)})
    elif sys.stdout.isatty() and not arguments.null:
        sys.stdout.write(visible(text_of(module, path, arguments)))
    else:
        # Bytes, whatever the locale: a module's author need not be UTF-8.
        sys.stdout.buffer.write(text_of(module, path, arguments).encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    return 0


def text_of(module: KernelObject, filename: str, arguments: argparse.Namespace) -> str:
    """What modinfo(8) prints with these flags; bytes that are not UTF-8 are surrogate escapes."""
    from lkm.ko import modinfo

    field = "parm" if arguments.parameters else arguments.field
    return modinfo.render(module, filename, field=field, separator="\0" if arguments.null else "\n")


def _path(arguments: argparse.Namespace) -> str:
    from pathlib import Path

    from lkm.kernels.modules import find

    name: str = arguments.module
    if "/" in name or ".ko" in name or Path(name).exists():
        return str(Path(name).absolute())
    with working(quiet=arguments.json) as progress:
        return str(find(kernel_named(arguments.kernel, progress), name))
