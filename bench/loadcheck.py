"""`lkm check` against the real kernels: the same objects, one prediction, one insmod.

    python -m bench.loadcheck [-k K ...] [--every N] [-v] [--json]

The modules of tests/data/loadcheck are built for each kernel, damaged, loaded where they do not belong and
without what they need; so are the kernels' own modules. Each is tried on each kernel: those given, or all
on this disk (LKM_CACHE_DIR). Compared are the verdict, the errno, and the kernel's lines in the log. Pairs
of which nothing is foretold (see docs/how-to/check-before-loading.md) are listed with the reason. Then it is
timed. The exit code is 1 where something differs.
"""

from __future__ import annotations

import argparse
import errno
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bench.loadcheck_objects import (
    damaged,
    damaged_versions,
    renamed,
    replaced,
    struct_named,
    without,
)
from lkm import kbuild, ko
from lkm import source as sources
from lkm.end import End
from lkm.errors import HostError, errno_name
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.loadcheck import KernelFacts, Report, Severity, Verdict, check, facts_of
from lkm.machine import Outcome
from lkm.vm.fresh import Fresh
from lkm.vm.machine import Machine

MODULES = Path(__file__).parents[1] / "tests" / "data" / "loadcheck"

LIBRARIES = (
    "crc_itu_t", "cordic", "lru_cache", "reed_solomon", "ts_bm", "ts_fsm", "ts_kmp", "cast_common",
    "blowfish_common", "twofish_common", "libdes", "md4", "rmd160", "seqiv", "echainiv", "authenc",
    "wp512", "rational", "gf128mul", "cast5_generic", "des_generic", "lz4hc", "libchacha",
)  # fmt: skip
"""The kernels' own modules that load anywhere: their inits need no device."""

PROCESSES = 9
"""Of how many processes the time is the median."""

SIG_ENFORCE = "/sys/module/module/parameters/sig_enforce"


class Setting(NamedTuple):
    """What a machine is before an object is tried: what is loaded (names of the kernel's own, or bytes)."""

    before: tuple[str | bytes, ...] = ()
    enforced: bool = False


@dataclass(frozen=True)
class Trial:
    """An object to load."""

    kind: str
    data: bytes = field(repr=False)
    setting: Setting = field(default=Setting(), repr=False)


@dataclass(frozen=True)
class Pair:
    """A trial on a kernel: what was foretold and what happened, errnos by their names (`ok` for none).

    `said` tells whether the log has the `lines` that were foretold; `why` is there where nothing was.
    """

    kernel: str
    kind: str
    foretold: str
    happened: str
    said: bool
    lines: tuple[str, ...]
    log: tuple[str, ...]
    why: str | None = None

    @property
    def known(self) -> bool:
        """Whether anything was foretold."""
        return self.foretold != "unknown"

    @property
    def right(self) -> bool:
        """Whether it happened as foretold."""
        return self.foretold == self.happened


Modules = dict[str, bytes]


def built(kernel: Kernel, home: Path) -> Modules:
    """The modules for this kernel, by their names."""
    build = kbuild.build(sources.find(MODULES), kernel, output=home)
    return {name: each.stripped.read_bytes() for name, each in build.objects.items()}


def libraries(facts: KernelFacts) -> Modules:
    """Those of the kernel's own modules that load anywhere."""
    found = {name: facts.own_module(name) for name in LIBRARIES}
    return {name: data for name, data in found.items() if data}


def trials(
    facts: KernelFacts, ours: Modules, foreign: dict[str, Modules], every: int
) -> Iterator[Trial]:
    """What is tried on one kernel; `foreign` are other kernels' modules, by their releases.

    Of those that are many of a kind it is one in `every`.
    """
    damages = damaged(ours["lc_plain"], facts.version)
    yield from islice((Trial(f"lc_plain, {kind}", data) for kind, data in damages), 0, None, every)
    yield from islice(_own(facts), 0, None, every)
    yield from islice(_of_others(foreign), 0, None, every)
    for name in ("printk", "kernel"):
        yield Trial(f"lc_plain named {name}", struct_named(ours["lc_plain"], name))
    yield from _exports(ours)
    yield from _licences(ours)
    yield from _needs(facts, ours)


def _of_others(foreign: dict[str, Modules]) -> Iterator[Trial]:
    for release, modules in foreign.items():
        for name, data in modules.items():
            yield Trial(f"{name} of {release}", data)


def _exports(ours: Modules) -> Iterator[Trial]:
    given, user = ours["lc_given"], ours["lc_user"]
    yield Trial("lc_user alone", user)
    yield Trial("lc_given", given)
    yield Trial("lc_given exports kfree", replaced(given, b"\0lfree\0", b"\0kfree\0"))
    after = Setting((given,))
    yield Trial("lc_given twice", given, after)
    yield Trial("lc_given under another name", renamed(given, "lc_taken"), after)
    yield Trial("lc_user", user, after)
    for name in ("lc_given", "lc_friend", "lc_foe"):
        yield Trial(f"lc_user named {name}", struct_named(user, name), after)
    unversioned = without(given, "__kcrctab")
    yield Trial("lc_given without CRCs", unversioned)
    yield Trial("lc_user after lc_given without CRCs", user, Setting((unversioned,)))
    spaceless = replaced(user, b"import_ns=LC_SPACE", b"import_ns=LC_SPICE")
    yield Trial("lc_user without the namespace", spaceless, after)
    for kind, data in damaged_versions(user):
        yield Trial(f"lc_user, {kind}", data, after)


def _licences(ours: Modules) -> Iterator[Trial]:
    user, torn = ours["lc_user"], ours["lc_torn"]
    after = Setting((ours["lc_closed"],))
    yield Trial("lc_closed", ours["lc_closed"])
    yield Trial("lc_torn alone", torn)
    yield Trial("lc_torn after lc_closed", torn, after)
    yield Trial("lc_torn, proprietary", _proprietary(torn), after)
    yield Trial("lc_user, proprietary", _proprietary(user), Setting((ours["lc_given"],)))


def _proprietary(data: bytes) -> bytes:
    return replaced(data, b"license=GPL", b"license=GPX")


def _needs(facts: KernelFacts, ours: Modules) -> Iterator[Trial]:
    if "lc_needs" in ours:
        yield Trial("lc_needs alone", ours["lc_needs"])
        yield Trial("lc_needs", ours["lc_needs"], Setting(facts.with_dependencies(["crc_itu_t"])))
    yield Trial("lc_percpu", ours["lc_percpu"])
    yield Trial("lc_weak", ours["lc_weak"])
    if "MODULE_SIG" in facts.options:
        yield Trial("lc_plain, unsigned", ours["lc_plain"], Setting(enforced=True))


def _own(facts: KernelFacts) -> Iterator[Trial]:
    """The kernel's own modules: whole, alone, cut off, changed after they were signed."""
    for name, data in libraries(facts).items():
        needs = facts.with_dependencies([name])[:-1]
        yield Trial(f"own {name}", data, Setting(needs))
        if facts.signature:
            yield Trial(f"own {name}, signed", data, Setting(needs, enforced=True))
        if needs:
            yield Trial(f"own {name} alone", data)
        yield Trial(f"own {name}, changed", replaced(data, b"intree=Y", b"intree=N"))
        yield Trial(f"own {name}, cut", data[: len(data) // 2])


class Judge:
    """One kernel, and machines of it for as long as they last; `seconds` is what `check` took."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.facts = facts_of(kernel)
        self.enforcing = replace(self.facts, sig_enforced=True)
        self.seconds = 0.0

    def pairs(self, given: Iterable[Trial]) -> Iterator[Pair]:
        """Each trial's pair. Those of the same setting share machines."""
        groups: dict[Setting, list[Trial]] = {}
        for trial in given:
            groups.setdefault(trial.setting, []).append(trial)
        with Fresh(self.kernel) as fresh:
            for setting, waiting in groups.items():
                while waiting:
                    with fresh.machine() as machine:
                        yield from self._on(machine, setting, waiting)

    def _on(self, machine: Machine, setting: Setting, waiting: list[Trial]) -> Iterator[Pair]:
        """As many trials as the machine survives, taken off the list."""
        loaded = self._prepared(machine, setting)
        facts = self.enforcing if setting.enforced else self.facts
        usable = True
        while waiting and usable:
            trial = waiting.pop(0)
            started = time.perf_counter()
            report = check(trial.data, facts, loaded=loaded)
            self.seconds += time.perf_counter() - started
            outcome = machine.load(trial.data)
            usable = outcome.end is End.DONE
            if usable and outcome.errno == 0:
                usable = machine.unload(report.name).errno == 0
            yield _pair(self.kernel, trial, report, outcome)

    def _prepared(self, machine: Machine, setting: Setting) -> list[str | ko.KernelObject]:
        """Make the machine what the trial wants; the result is what `check` takes for `loaded`."""
        loaded: list[str | ko.KernelObject] = []
        for each in setting.before:
            data = each if isinstance(each, bytes) else self.facts.own_module(each) or b""
            outcome = machine.load(data)
            if outcome.errno not in (0, errno.EEXIST):
                raise HostError(f"what comes first does not load: {errno_name(outcome.errno)}")
            loaded.append(each if isinstance(each, str) else ko.parse(each, "before"))
        if setting.enforced:
            machine.write(SIG_ENFORCE, b"1\n")
        names = {each if isinstance(each, str) else each.name for each in loaded}
        return [*loaded, *(each.name for each in machine.modules() if each.name not in names)]


def _pair(kernel: Kernel, trial: Trial, report: Report, outcome: Outcome) -> Pair:
    happened = str(outcome.end)
    if outcome.end is End.DONE:
        happened = errno_name(outcome.errno) if outcome.errno else "ok"
    foretold = str(report.verdict)
    if report.verdict is Verdict.REFUSED:
        foretold = errno_name(report.errno or 0)
    refusals = [finding for finding in report.findings if finding.errno]
    lines = tuple(line for finding in refusals for line in finding.dmesg)
    log = tuple(record.text for record in outcome.records)
    doubts = [finding.why for finding in report.findings if finding.severity is Severity.MAY_REFUSE]
    why = doubts[0] if report.verdict is Verdict.UNKNOWN else None
    return Pair(
        kernel.release, trial.kind, foretold, happened, _within(lines, log), lines, log, why
    )


def _within(lines: Sequence[str], log: Sequence[str]) -> bool:
    """Whether the log has these lines, in this order, others between them or not."""
    rest = iter(log)
    return all(line in rest for line in lines)


def everything(names: Sequence[str], every: int) -> Iterator[tuple[Judge, list[Pair]]]:
    """The pairs of these kernels, or of all on this disk, kernel by kernel."""
    kernels = [store.get(name) for name in names] or store.installed()
    with tempfile.TemporaryDirectory() as home:
        ours = {kernel.release: built(kernel, Path(home)) for kernel in kernels}
        all_of = {k.release: {**ours[k.release], **libraries(facts_of(k))} for k in kernels}
        for kernel in kernels:
            judge = Judge(kernel)
            foreign = {release: all_of[release] for release in ours if release != kernel.release}
            chosen = trials(judge.facts, ours[kernel.release], foreign, every)
            yield judge, list(judge.pairs(chosen))


def _tell(judge: Judge, pairs: Sequence[Pair], *, verbose: bool) -> None:
    for pair in pairs:
        wrong = pair.known and not (pair.right and pair.said)
        if wrong or (verbose and pair.known):
            mark = "WRONG: " if wrong else ""
            print(f"{mark}{pair.kernel}: {pair.kind}: {pair.foretold}, and it was {pair.happened}")
        if wrong:
            shown = (*(f"foretold: {line}" for line in pair.lines), *pair.log[:12])
            print("\n".join(f"    {line}" for line in shown))
        if not pair.known:
            print(f"{pair.kernel}: {pair.kind}: not to be foretold ({pair.happened}): {pair.why}")
    known = [pair for pair in pairs if pair.known]
    print(
        f"{judge.kernel.release}: {len(pairs)} pairs, of {len(known)} foretold"
        f" {sum(pair.right for pair in known)} right, with the kernel's lines"
        f" {sum(pair.right and pair.said for pair in known)};"
        f" 1,000 predictions take {judge.seconds / len(pairs) * 1000:.2f} s"
    )


def _tell_time(kernel: Kernel) -> None:
    """What one `lkm check` of a .ko costs as a whole process, beside one that does nothing."""
    with tempfile.TemporaryDirectory() as home:
        module = Path(home) / "lc_plain.ko"
        module.write_bytes(built(kernel, Path(home))["lc_plain"])
        for words in (("check", str(module), "-k", kernel.release), ("--help",)):
            argv = [sys.executable, "-m", "lkm", *words]
            seconds = [_timed(argv) for _ in range(PROCESSES + 1)][1:]
            print(f"lkm {words[0]}, whole process: {statistics.median(seconds):.3f} s")


def _timed(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Try all, and say where the prediction was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("-k", "--kernel", metavar="K", action="append", default=[])
    parser.add_argument("-v", "--verbose", action="store_true", help="every pair")
    parser.add_argument("--every", metavar="N", type=int, default=1, help="only one damage in N")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: list[Pair] = []
    for judge, pairs in everything(arguments.kernel, arguments.every):
        found += pairs
        if not arguments.json:
            _tell(judge, pairs, verbose=arguments.verbose)
    if arguments.json:
        json.dump([asdict(pair) for pair in found], sys.stdout, indent=1)
    else:
        _tell_time(store.get(*arguments.kernel[:1]))
    return 0 if all(pair.right and pair.said for pair in found if pair.known) else 1


if __name__ == "__main__":
    sys.exit(main())
