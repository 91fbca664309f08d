"""Fail each call of a module that can fail, one at a time, and say what the module makes of it.

The calls are counted first, in init, in exit, and while the --exercise or the test runs. Then each is failed
alone, on a fresh machine, as the function itself would fail: NULL, ERR_PTR(-ENOMEM), -EBUSY.

  lkm faults examples/chardev
  lkm faults drv.c --exercise 'cat /proc/drv' --html faults.html
  lkm faults examples/chardev --exercise-test examples/chardev/test_chardev.py
  lkm faults drv.c --only 3 --keep
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, add_kernel, completes_files, kernel_named
from lkm.cli.render import Style, print_json, visible, working
from lkm.cli.staying import Staying
from lkm.errors import HostError, ModuleFailure, UsageError

if TYPE_CHECKING:
    from lkm.faults.by_tests import ByTests
    from lkm.faults.campaign import Campaign, Faults
    from lkm.faults.fault import Fault
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Machine
    from lkm.progress import Progress

_TIMEOUT = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm faults` takes."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a directory, a .c file, a .ko, or a Debian package: NAME-dkms[@SUITE]",
    )
    parser.add_argument(
        "params", metavar="param=value", nargs="*", help="module parameters, as for insmod"
    )
    add_kernel(parser)
    add_json(parser)
    parser.add_argument("--module", metavar="NAME", help="of several modules, this one")
    parser.add_argument(
        "--exercise", metavar="CMD", help="a shell command to run in the guest after the load"
    )
    completes_files(
        parser.add_argument(
            "--exercise-test",
            metavar="TEST",
            help="a pytest test that loads the module and uses it: FILE or FILE::TEST",
        )
    )
    parser.add_argument(
        "--per-place",
        type=int,
        metavar="N",
        help="fail the first N calls of each place in the source only (default: all)",
    )
    parser.add_argument("--only", type=int, metavar="N", help="fail the N-th call alone")
    parser.add_argument(
        "--keep", action="store_true", help="with --only: leave the machine up afterwards"
    )
    parser.add_argument("--html", metavar="FILE", help="write the source with each call marked")
    parser.add_argument(
        "--again", action="store_true", help="do not take results of an earlier run"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        default=_TIMEOUT,
        help="seconds after which it hangs (default: %(default)g)",
    )


def main(arguments: argparse.Namespace) -> int:
    """`lkm faults`."""
    _check(arguments)
    kept: list[str] = []
    with working(quiet=arguments.json) as progress:
        campaign = _campaign(arguments, progress, kept)
        found = campaign.only(arguments.only) if arguments.only else campaign.all()
    if arguments.html:
        _write_page(found, arguments.html)
    if arguments.json:
        print_json(found.to_dict())
    else:
        _tell(found, kept)
    return 0 if found.ok else ModuleFailure.exit_code


def _check(arguments: argparse.Namespace) -> None:
    if arguments.timeout <= 0:
        raise UsageError(f"--timeout {arguments.timeout:g}", hint="give seconds, more than 0")
    if arguments.only is not None and arguments.only < 1:
        raise UsageError(f"--only {arguments.only}", hint="the first call is --only 1")
    if arguments.per_place is not None and arguments.per_place < 1:
        raise UsageError(
            f"--per-place {arguments.per_place}", hint="--per-place 1 is one call each"
        )
    if arguments.keep and not arguments.only:
        raise UsageError("--keep is for one call", hint="--only N --keep")
    if arguments.exercise_test:
        _check_test(arguments)


def _check_test(arguments: argparse.Namespace) -> None:
    if arguments.exercise is not None:
        raise UsageError(
            "--exercise and --exercise-test do not go together", hint="run the command in the test"
        )
    if arguments.params:
        raise UsageError(
            f"{arguments.params[0]}: with --exercise-test it is the test that loads the module",
            hint="give the parameters in the test: insmod(NAME=VALUE)",
        )
    if arguments.keep:
        raise UsageError(
            "--keep: the machines of a test end with it",
            hint=f"enter one with a breakpoint() in it: pytest {arguments.exercise_test}",
        )
    file = Path(arguments.exercise_test.partition("::")[0])
    if not file.exists():
        raise UsageError(f"no such file: {file}", hint="--exercise-test FILE::TEST")


def _campaign(
    arguments: argparse.Namespace, progress: Progress, kept: list[str]
) -> Campaign | ByTests:
    from lkm.faults.campaign import Campaign, subject_of
    from lkm.kernels.dkms import located
    from lkm.params import parse_assignments

    kernel = kernel_named(arguments.kernel, progress)
    source = located(arguments.source, progress=progress)
    subject = subject_of(
        source,
        kernel,
        module=arguments.module,
        params=parse_assignments(arguments.params),
        command=arguments.exercise,
        timeout=arguments.timeout,
        progress=progress,
    )
    if arguments.exercise_test:
        from lkm.faults.by_tests import ByTests

        return ByTests(
            subject,
            source,
            arguments.exercise_test,
            arguments.kernel or kernel.release,
            per_place=arguments.per_place,
            again=arguments.again,
            progress=progress,
        )
    make = _keeper(arguments, kernel, progress, kept, subject.target.name)
    return Campaign(
        subject,
        make=make if arguments.keep else None,
        per_place=arguments.per_place,
        again=arguments.again,
        progress=progress,
    )


def _keeper(
    arguments: argparse.Namespace, kernel: Kernel, progress: Progress, kept: list[str], name: str
) -> Callable[[], Machine]:
    staying = Staying(kernel, progress, arguments.kernel)

    def make() -> Machine:
        machine = staying.machine(name)
        kept[:] = staying.names
        return machine

    return make


def _write_page(found: Faults, path: str) -> None:
    from lkm.faults.html import page

    try:
        Path(path).write_text(page(found), "utf-8")
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error


def _tell(found: Faults, kept: list[str]) -> None:
    style = Style(sys.stdout)
    tests = {fault.test for fault in found.faults}
    test = None
    for fault in found.faults:
        if fault.test != test and len(tests) > 1:
            print(style.bold(visible(fault.test or "")))
        test = fault.test
        print(_line(fault, style))
    if not found.faults:
        print("no call that can fail was made")
    counts = Counter(fault.result.value for fault in found.faults)
    said = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    name = found.subject.target.name
    never = f"; {len(found.never)} never reached" if found.never else ""
    if said:
        print(f"{style.bold(name)}: {said}{never}")
    for place in found.never_reached():
        where = f"{place['file']}:{place['line']}" if place["file"] else place["function"]
        print(style.dim(f"never reached: {place['call']} ({where})"))
    for machine in kept:
        print(f"machine {machine} is up: lkm sh -m {machine}, lkm down {machine}")


def _line(fault: Fault, style: Style) -> str:
    word = style.red(fault.result) if fault.result.is_bad else style.green(fault.result)
    where = f"{fault.file}:{fault.line}" if fault.file else fault.function or "?"
    more = fault.reason or fault.errno
    text = f"{fault.n:4} {fault.phase or '-':8} {fault.call or '?':22} {where}: {word}"
    return f"{text} ({visible(more)})" if more else text
