"""The command line: parse, call the library, render. One file a verb."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from lkm.errors import LkmError, UsageError

__all__ = ["VERBS", "build_parser", "main"]

VERBS: dict[str, str] = {
    "run": "build a module, load it in a fresh machine, and say what became of it",
    "build": "build a module source with the kernel's own Kbuild",
    "clean": "remove what lkm built",
    "kernel": "the kernels on this disk, and what can be fetched",
    "modinfo": "what a kernel object says about itself",
    "up": "start a machine that stays",
    "down": "end a machine that stays",
    "ps": "the machines that are up",
    "insmod": "load a module into a machine that is up",
    "rmmod": "unload a module",
    "lsmod": "what is loaded",
    "dmesg": "the guest's log",
    "param": "read or write a loaded module's parameters",
    "sh": "a shell, or one command, in a machine that is up",
    "completion": "the completion script for your shell",
}

_DESCRIPTION = (
    "Build, load and judge Linux kernel modules, on real kernels, in machines that are thrown away."
)
_EPILOG = """\
exit codes: 0 clean, 1 the module failed, 2 wrong usage or bad input, 3 this computer lacks something,
4 the build failed, 5 the machine broke

  lkm run examples/hello             build, load, log, unload, verdict
  lkm run drv.c debug=1 -k 6.1       one file, a parameter, another kernel
  lkm up && lkm insmod ./drv.ko      a machine to play with
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of every verb, or with that of `only` alone: a run imports no other verb."""
    parser = _Parser(
        prog="lkm",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lkm {_version()}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=_Parser)
    for name, summary in VERBS.items():
        if only in (None, name):
            module = import_module(f"lkm.cli.{name}")
            verb = verbs.add_parser(
                name,
                help=summary,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(verb)
            verb.set_defaults(handler=module.main)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _on_terminate()
    try:
        return _dispatch(words)
    except LkmError as error:
        _report(error, words)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2


def _dispatch(words: list[str]) -> int:
    only = words[0] if words and words[0] in VERBS else None
    parser = _help_parser() if words in (["--help"], ["-h"], []) else build_parser(only)
    if not words:
        parser.print_help()
        return 2
    if words[0] not in VERBS and not words[0].startswith("-"):
        raise _unknown_verb(words[0])
    arguments = parser.parse_args(words)
    if arguments.verb is None:
        parser.print_help()
        return 2
    code: int = arguments.handler(arguments)
    return code


def _help_parser() -> argparse.ArgumentParser:
    """Enough of the parser for `lkm --help`, without importing any verb."""
    parser = _Parser(
        prog="lkm",
        usage="lkm [-h] [--version] VERB ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, summary in VERBS.items():
        verbs.add_parser(name, help=summary)
    return parser


def _unknown_verb(word: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(word, VERBS, n=1)
    return UsageError(f"no verb {word!r}", hint=f"lkm {near[0]}" if near else "lkm --help")


def _report(error: LkmError, words: Sequence[str]) -> None:
    if "--json" in words:
        import json

        document = {
            "schema": 1,
            "error": {
                "type": type(error).__name__,
                "summary": error.summary,
                "evidence": list(error.evidence),
                "hint": error.hint,
            },
        }
        print(json.dumps(document, indent=1))
    from lkm.cli.render import Style

    style = Style(sys.stderr)
    print(f"{style.red('lkm:')} {error}", file=sys.stderr)


def _on_terminate() -> None:
    """SIGTERM and SIGHUP clean up as Ctrl-C does."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def _version() -> str:
    from lkm._version import VERSION

    return VERSION
