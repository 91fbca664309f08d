"""The completion script for your shell.

lkm completion bash > ~/.local/share/bash-completion/completions/lkm
lkm completion zsh  > ~/.zfunc/_lkm
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm completion` takes."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def main(arguments: argparse.Namespace) -> int:
    """`lkm completion`."""
    import shtab

    from lkm.cli import build_parser

    print(shtab.complete(build_parser(), arguments.shell))
    return 0
