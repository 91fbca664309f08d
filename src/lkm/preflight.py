"""Whether the running kernel would take a module: asked of its files before it is asked itself."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lkm.errors import HostError, LoadError, UsageError, errno_name
from lkm.kernels.kernel import Kernel
from lkm.ko import KernelObject, read_image
from lkm.loadcheck import Finding, KernelFacts, Report, Severity, check, facts_of
from lkm.targets import Target, needed

__all__ = ["Preflight", "Refusal", "prepare"]

_SHOWN = 6
"""How many findings an error shows."""


@dataclass(frozen=True)
class Refusal:
    """Why a module is not given to the kernel: what it would say to the file at `path`, with its `errno`."""

    path: Path
    errno: int
    findings: tuple[Finding, ...]

    @property
    def symbol(self) -> str:
        """The errno by its name."""
        return errno_name(self.errno)

    @property
    def reason(self) -> str:
        """One line."""
        first = self.findings[0]
        return f"not loaded: {self.path.name} would be refused: {self.symbol}: {first.what}: {first.why}"

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return self.findings[0].hint

    def error(self) -> LoadError:
        """The exception that says so."""
        said = [f"not tried: {each.what}: {each.why}" for each in self.findings[:_SHOWN]]
        return LoadError(self.path.name, self.errno, log=said, hint=self.hint)


@dataclass(frozen=True)
class Preflight:
    """What is known of the running kernel; `blind` says why that is not enough to foretell anything."""

    release: str
    facts: KernelFacts | None = field(default=None, repr=False)
    locked_down: bool = False
    blind: str = ""

    def refusal(
        self, target: Target, beside: Sequence[Target], loaded: Collection[str]
    ) -> Refusal | None:
        """Why `target`, or one of `beside` that it needs, is not given to the kernel; None if all is well.

        `loaded` are the names of what is loaded now. Raises HostError where nothing can be foretold and the
        module was not even built for this release.
        """
        chain = needed(target, beside)
        if self.facts is None:
            self._require_release(chain)
            return None
        known = set(loaded) - {each.name for each in chain}
        for number, each in enumerate(chain):
            depends = [name for one in chain[: number + 1] for name in one.object.depends]
            names = known | set(self.facts.with_dependencies(depends))
            before = [one.object for one in chain[:number]]
            if refusal := self._ask(each, self.facts, names, before):
                return refusal
        return None

    def _ask(
        self,
        target: Target,
        facts: KernelFacts,
        names: Collection[str],
        before: Sequence[KernelObject],
    ) -> Refusal | None:
        report = check(read_image(target.image), facts, loaded=[*sorted(names), *before])
        findings = _against(report)
        if not findings:
            return None
        unresolved = all(each.errno == errno.ENOENT for each in findings)
        if unresolved and any(_is_foreign(name, facts) for name in names):
            # What it exports is in no table: only the kernel knows.
            return None
        number = report.errno or findings[0].errno or errno.ENOEXEC
        if self.locked_down and number == errno.EKEYREJECTED:
            number = errno.EPERM
        return Refusal(target.path, number, findings)

    def _require_release(self, targets: Sequence[Target]) -> None:
        for target in targets:
            built_for = target.object.release
            if built_for != self.release:
                raise HostError(
                    f"{target.path.name} is built for {built_for or 'no kernel'}, this computer runs"
                    f" {self.release}, and whether it would load cannot be checked: {self.blind}",
                    hint=f"sudo apt-get install linux-headers-{self.release}",
                )


def prepare(kernel: Kernel, *, root: Path = Path("/")) -> Preflight:
    """What the files of the running kernel tell, and what /sys below `root` says of its policies."""
    symvers = kernel.build_dir_on_host / "Module.symvers"
    if not symvers.is_file():
        return Preflight(kernel.release, blind=f"{symvers} is not here")
    try:
        facts = facts_of(kernel)
    except UsageError as error:
        return Preflight(kernel.release, blind=error.summary)
    enforced = facts.sig_enforced or _says(root / "sys/module/module/parameters/sig_enforce", "Y")
    # Lockdown refuses what no known key has signed, as module_sig_check() does: by another errno.
    locked = not enforced and not _says(
        root / "sys/kernel/security/lockdown", "[none]", absent=True
    )
    facts = replace(facts, sig_enforced=enforced or locked)
    return Preflight(kernel.release, facts, locked)


def _against(report: Report) -> tuple[Finding, ...]:
    """What makes the kernel refuse it, and damage that it might not see and oops over."""
    return tuple(
        each
        for each in report.findings
        if each.severity is Severity.REFUSES
        or (each.severity is Severity.MAY_REFUSE and each.errno == errno.ENOEXEC)
    )


def _is_foreign(name: str, facts: KernelFacts) -> bool:
    """Whether a loaded module was not built with the kernel: insmod's, or DKMS's in updates/."""
    path = facts.index.files.get(name)
    return path is None or "kernel" not in path.parts


def _says(path: Path, word: str, *, absent: bool = False) -> bool:
    try:
        return word in path.read_text().split()
    except OSError:
        return absent
