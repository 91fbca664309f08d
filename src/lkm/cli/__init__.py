"""The command line: parse, call the library, render. One file a verb."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from lkm.errors import HostError, LkmError, MachineError, UsageError

__all__ = ["VERBS", "build_parser", "main", "parse"]

VERBS: dict[str, str] = {
    "run": "build a module, load it in a fresh machine, and say what became of it",
    "matrix": "try sources on many kernels",
    "bisect": "the first kernel on which a source fails",
    "faults": "fail each call of a module that can fail, one at a time",
    "explain": "what a kind of problem means, and what usually causes it",
    "build": "build a module source with the kernel's own Kbuild",
    "clean": "remove what lkm built",
    "kernel": "the kernels on this disk, and what can be fetched",
    "modinfo": "what a kernel object says about itself",
    "check": "whether a kernel would load a module, and if not why",
    "sign": "sign a module with the kernel's own sign-file",
    "up": "start a machine that stays",
    "down": "end a machine that stays",
    "ps": "the machines that are up",
    "insmod": "load a module into a machine that is up",
    "modprobe": "load one of the kernel's own modules into a machine that is up",
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


_AS_WRITTEN = {"kernel", "sh"}


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb at once, for completion and for the reference; a run makes its own verb's."""
    parser = _Parser(
        prog="lkm",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lkm {_version()}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=_Parser)
    for name, summary in VERBS.items():
        module = import_module(f"lkm.cli.{name}")
        verb = verbs.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb)
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
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _report(
            HostError(what, hint="set LKM_CACHE_DIR or LKM_RUNTIME_DIR, if it is theirs"), words
        )
        return HostError.exit_code
    except Exception as error:  # noqa: BLE001 - exit code 1 would put the blame on the module
        import traceback

        traceback.print_exc()
        _report(MachineError(f"this is a bug in lkm: {error!r}", stage="lkm"), words)
        return MachineError.exit_code


def _dispatch(words: list[str]) -> int:
    if not words:
        _help_parser().print_help()
        return 2
    verb, *rest = words
    if verb.startswith("-"):
        _help_parser().parse_args(words)
        raise UsageError(f"no verb before {verb}", hint="lkm --help")
    if verb not in VERBS:
        raise _unknown_verb(verb)
    code: int = import_module(f"lkm.cli.{verb}").main(parse(verb, rest))
    return code


def parse(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """What `lkm VERB WORDS...` asks for. Raises UsageError."""
    module = import_module(f"lkm.cli.{verb}")
    parser = _Parser(
        prog=f"lkm {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    # Options may stand among the words, `lkm run x -k 6.1 p=1`; not in a command that is handed on.
    as_written = verb in _AS_WRITTEN
    return parser.parse_args(words) if as_written else parser.parse_intermixed_args(words)


def _help_parser() -> argparse.ArgumentParser:
    """Enough of the parser for `lkm --help`, without importing any verb."""
    parser = _Parser(
        prog="lkm",
        usage="lkm [-h] [--version] VERB ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lkm {_version()}")
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
