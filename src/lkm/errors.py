"""Everything lkm raises, in one tree.

    LkmError
      UsageError          the caller's bug or bad input                     exit 2
        StateError        the object is not in the state that this needs
        ExcludedError     the module source says that it is not for this kernel
      HostError           this computer cannot do it                        exit 3
      BuildError          the module source does not build                  exit 4
      MachineError        the machine broke; not the module's fault         exit 5
      ModuleFailure       the module under test failed; lkm worked          exit 1
        LoadError         insmod was refused
        UnloadError       rmmod was refused
        KernelProblem     the kernel reported an oops, BUG, WARNING, panic
        CommandError      a command in the guest failed

Three kinds of blame: the caller, the infrastructure, the code under test. Only the last is a failed
test. The text of an error is a line that says what failed, the indented evidence, and one `hint:`
line with something to type; `str(error)` gives all of it.
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lkm.problems import Problem

__all__ = [
    "BuildError",
    "CommandError",
    "ExcludedError",
    "HostError",
    "KernelProblem",
    "LkmError",
    "LoadError",
    "MachineError",
    "ModuleFailure",
    "StateError",
    "UnloadError",
    "UsageError",
    "errno_name",
]


def errno_name(number: int) -> str:
    """The symbol of a positive errno, `ENOEXEC` for 8; `errno 4096` for one without a name."""
    known = _WRITTEN.get(number) or _errno.errorcode.get(number)
    return known or _KERNELS_OWN.get(number, f"errno {number}")


_WRITTEN = {35: "EDEADLK", 95: "EOPNOTSUPP"}
"""Of two names for a number Python has the other, EDEADLOCK and ENOTSUP."""

_KERNELS_OWN = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK", 517: "EPROBE_DEFER", 518: "EOPENSTALE", 519: "ENOPARAM", 524: "ENOTSUPP",
}  # fmt: skip
"""Those that no program should see, and some modules return (include/linux/errno.h, 6.12)."""


class LkmError(Exception):
    """Base of every error that lkm raises on purpose.

    `summary` is one lower-case line with real values, `evidence` the lines that prove it, `hint` one
    thing to type or do next. `exit_code` is what the command line ends with.
    """

    exit_code: ClassVar[int] = 5

    def __init__(
        self, summary: str, *, evidence: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.evidence = tuple(evidence)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.summary, *(f"  {line}" for line in self.evidence)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[LkmError], args: tuple[Any, ...], state: dict[str, Any]) -> LkmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(LkmError):
    """The caller asked for something that makes no sense: bad input, a wrong name, a wrong value."""

    exit_code: ClassVar[int] = 2


class StateError(UsageError):
    """An object was used in a state that does not allow it: a closed machine, an empty store."""

    def __init__(self, what: str, *, state: str, required: str, hint: str | None = None) -> None:
        super().__init__(f"{what} is {state}, and this needs it to be {required}", hint=hint)
        self.state = state
        self.required = required


class ExcludedError(UsageError):
    """A module source is not for the kernel that it should be built for: its dkms.conf says so.

    That is no failure of the module: `lkm run` and `lkm build` tell it, and end with 0. `reason` is one line.
    """

    def __init__(self, name: str, release: str, reason: str) -> None:
        super().__init__(
            f"{name} is not for {release}: {reason}", hint="choose another kernel: lkm kernel list"
        )
        self.reason = reason


class HostError(LkmError):
    """This computer cannot do it: a tool is missing, the disk is full, the network is down."""

    exit_code: ClassVar[int] = 3


class BuildError(LkmError):
    """The module source did not build. `evidence` is what the compiler and modpost said."""

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        summary: str,
        *,
        argv: Sequence[str] = (),
        returncode: int | None = None,
        diagnostics: Sequence[str] = (),
        log_path: Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(summary, evidence=diagnostics, hint=hint)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.diagnostics = tuple(diagnostics)
        self.log_path = log_path


class MachineError(LkmError):
    """The machine broke and the module is not to blame.

    `stage` says what was being done (`boot`, `freeze`, `restore`, ...), `console_tail` is the end of
    what the guest's console printed, `run_dir` is kept where there is one.
    """

    exit_code: ClassVar[int] = 5

    def __init__(
        self,
        summary: str,
        *,
        stage: str,
        console_tail: str = "",
        run_dir: Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"{stage}: {summary}", evidence=console_tail.splitlines()[-12:], hint=hint)
        self.stage = stage
        self.console_tail = console_tail
        self.run_dir = run_dir


class ModuleFailure(LkmError):
    """The module under test failed, and lkm worked."""

    exit_code: ClassVar[int] = 1


class _ErrnoFailure(ModuleFailure):
    def __init__(
        self, verb: str, name: str, errno: int, *, log: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(f"{verb} '{name}' failed: {errno_name(errno)}", evidence=log, hint=hint)
        self.name = name
        self.errno = errno
        self.log = tuple(log)


class LoadError(_ErrnoFailure):
    """The kernel refused to load the module. `errno` is what init_module(2) gave."""

    def __init__(
        self, name: str, errno: int, *, log: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__("insmod", name, errno, log=log, hint=hint)


class UnloadError(_ErrnoFailure):
    """The kernel refused to unload the module. `errno` is what delete_module(2) gave."""

    def __init__(
        self, name: str, errno: int, *, log: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__("rmmod", name, errno, log=log, hint=hint)


class KernelProblem(ModuleFailure):
    """The kernel reported a problem while the module was in it; `problem` says which.

    `evidence` is where in the source it was (`traced`), as far as that is known, and then the `log`.
    """

    def __init__(
        self, problem: Problem, *, log: Sequence[str] = (), traced: Sequence[str] = ()
    ) -> None:
        hint = f"lkm explain {problem.kind}"
        super().__init__(problem.summary, evidence=(*traced, *log), hint=hint)
        self.problem = problem
        self.traced, self.log = tuple(traced), tuple(log)


class CommandError(ModuleFailure):
    """A command in the guest ended with a non-zero exit code."""

    def __init__(
        self, argv: Sequence[str], returncode: int, *, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        tail = (stderr or stdout).decode(errors="replace").splitlines()[-12:]
        super().__init__(f"'{' '.join(argv)}' ended with exit code {returncode}", evidence=tail)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
