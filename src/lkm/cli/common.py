"""Arguments and steps that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Machine
    from lkm.progress import Progress
    from lkm.vm.machine import Machine as GuestMachine

__all__ = [
    "add_host",
    "add_json",
    "add_kernel",
    "add_machine",
    "attached",
    "completes_files",
    "completes_kernels",
    "kernel_named",
    "kernel_of",
    "machine_of",
    "require_no_other",
]


_NAMES = """\
_lkm_kernel_names() {
  printf '%s\\n' newest oldest all debug host
  ls "${LKM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/lkm}/kernels" 2>/dev/null |
    sed -E 's/^([0-9]+[.][0-9]+).*/&\\n\\1/' | sort -u
}"""
_COMPLETION = {
    "bash": "_lkm_kernels",
    "zsh": "_lkm_kernels",
    "tcsh": "",
    "preamble": {
        "bash": _NAMES
        + """
_lkm_kernels() {
  local last=${1##*,}
  last=${last##*..}
  compgen -P "${1%"$last"}" -W "$(_lkm_kernel_names)" -- "$last"
}""",
        "zsh": _NAMES
        + """
_lkm_kernels() {
  compset -P '*,'
  compset -P '*..'
  compadd -- ${(f)"$(_lkm_kernel_names)"}
}""",
    },
}
"""How shells complete a kernel, also after a comma and `..`: from the store, without starting lkm."""


def completes_files(action: argparse.Action) -> None:
    """Have `lkm completion` complete the words of this option as names of files (shtab.FILE)."""
    vars(action)["complete"] = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def completes_kernels(action: argparse.Action) -> None:
    """Have `lkm completion` complete the words of this option as names of kernels (shtab's attribute)."""
    vars(action)["complete"] = _COMPLETION


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """`-k/--kernel K`."""
    completes_kernels(
        parser.add_argument(
            "-k",
            "--kernel",
            metavar="K",
            help="6.1, a full release, debian:trixie, debug, tree:PATH, host (default: Debian stable's"
            " cloud kernel)",
        )
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, and nothing else"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """`-m/--machine NAME`."""
    parser.add_argument(
        "-m", "--machine", metavar="NAME", help="which machine (default: the only one that is up)"
    )


def add_host(parser: argparse.ArgumentParser) -> None:
    """`--host`."""
    parser.add_argument(
        "--host", action="store_true", help="on this computer's own kernel; to load needs root"
    )


def kernel_named(name: str | None, progress: Progress) -> Kernel:
    """The kernel of that name, fetched where it is not on this disk."""
    from lkm.kernels import store

    if name and not name.startswith("tree:") and Path(name, "Module.symvers").exists():
        name = f"tree:{name}"
    return store.get(name, progress=progress)


def machine_of(arguments: argparse.Namespace, *, with_monitor: bool = True) -> Machine:
    """This computer with `--host`, else a session with the machine that the arguments choose."""
    if not arguments.host:
        return attached(arguments, with_monitor=with_monitor)
    from lkm.host import HostMachine

    require_no_other(arguments)
    return HostMachine()


def require_no_other(arguments: argparse.Namespace) -> None:
    """Raise UsageError for `--host` together with an option that chooses or keeps another machine."""
    for name in ("machine", "kernel", "keep", "track"):
        if getattr(arguments, name, None):
            raise UsageError(
                f"--host and --{name} do not go together: --host is this computer as it runs",
                hint="leave one of them out",
            )


def attached(arguments: argparse.Namespace, *, with_monitor: bool = True) -> GuestMachine:
    """A session with the guest that the arguments choose."""
    from lkm.vm import named
    from lkm.vm.attach import attach

    return attach(named.find(arguments.machine), with_monitor=with_monitor)


def kernel_of(arguments: argparse.Namespace) -> Kernel:
    """The kernel that the chosen machine runs."""
    from lkm.kernels import store
    from lkm.vm import named

    return store.get(named.find(arguments.machine).kernel, fetch=False)
