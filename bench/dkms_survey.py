"""All `*-dkms` packages of a Debian suite against several kernels: which build, which load, and why not.

    python -m bench.dkms_survey [-k K ...] [-p PACKAGE ...] [--suite S] [--minutes N] [--write PAGE]

Each cell is `lkm run PACKAGE -k K`. A cell's result is kept by the content of the package's source and the
kernel's identity, so an interrupted survey goes on where it was. Small packages come first. With --write the
table in PAGE, between its two marks, is made anew of what is kept.

All of it is 200 builds: about two hours of CPU. It wants `lkm kernel fetch` of generic kernels, which have the
subsystems that the cloud flavour has not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import page
from lkm import paths
from lkm import source as sources
from lkm.errors import LkmError
from lkm.kbuild import workdir
from lkm.kernels import apt, dkms, store
from lkm.kernels.catalog import series_of
from lkm.kernels.kernel import Kernel
from lkm.run import Rig, Run, run
from lkm.verdict import ModuleRun, Verdict
from lkm.vm.fresh import Fresh

KERNELS = ("5.10-generic", "6.1-generic", "6.12-generic", "7.2-generic", "7.3-generic")
NO_DEVICE = ("ENODEV", "ENXIO")
MARK = "<!-- the survey's table: python -m bench.dkms_survey --write -->"


@dataclass(frozen=True)
class Cell:
    """What became of a package on a kernel.

    `errnos` are of the modules that init refused, and the verdicts on others that failed.
    """

    package: str
    version: str
    release: str
    state: str
    modules: int = 0
    loaded: int = 0
    errnos: tuple[str, ...] = ()
    reason: str = ""

    @property
    def word(self) -> str:
        """The cell of the table."""
        if self.state != "builds":
            return self.state
        if self.loaded == self.modules:
            return "loads"
        if set(self.errnos) <= set(NO_DEVICE) and len(self.errnos) == self.modules - self.loaded:
            return (
                "builds, no device" if not self.loaded else f"loads {self.loaded} of {self.modules}"
            )
        return f"**loads {self.loaded} of {self.modules}**"


def packages(suite: str) -> list[str]:
    """The suite's packages whose name ends in -dkms, but for debhelper's own."""
    from lkm.arch import X86_64

    world = apt.world(suite, X86_64)
    apt.refresh(world)
    known = apt.cache(world, ["pkgnames"]).split()
    return sorted(name for name in known if name.endswith("-dkms") and name != "dh-dkms")


def kept(directory: Path, kernel: Kernel) -> Path:
    """The file that a cell's result is kept in."""
    source = sources.find(directory)
    copies = [(copy.name, copy.mode, copy.digest) for copy in workdir.snapshot(source)]
    key = hashlib.sha256(json.dumps([copies, kernel.identity]).encode()).hexdigest()[:24]
    return paths.cache_dir() / "dkms-survey" / f"{directory.name}-{kernel.release}-{key}.json"


def load(path: Path) -> Cell | None:
    try:
        data = json.loads(path.read_text())
    except OSError:
        return None
    return Cell(**{**data, "errnos": tuple(data["errnos"])})


def judge(package: str, directory: Path, kernel: Kernel) -> Cell:
    """One cell. Raises what is no verdict."""
    with Fresh(kernel) as fresh:
        outcome = run(directory, kernel, Rig(lambda module: fresh.machine()))
    # Not kbuild.clean: another survey may be building for another kernel.
    for built in workdir.of_source(sources.find(directory)).glob(f"{kernel.release}-*"):
        workdir.remove_tree(built)
    version = directory.name
    first = outcome.modules[0]
    if outcome.error or first.verdict is Verdict.EXCLUDED:
        state = "excluded" if not outcome.error else "**does not build**"
        return Cell(package, version, kernel.release, state, reason=first.reason or "")
    failed = [module for module in outcome.modules if module.verdict is not Verdict.OK]
    return Cell(
        package, version, kernel.release, "builds", len(outcome.modules),
        len(outcome.modules) - len(failed), tuple(map(_failure, failed)),
        _reasons(outcome),
    )  # fmt: skip


def _failure(module: ModuleRun) -> str:
    refused = module.errno if module.verdict is Verdict.LOAD_FAILED else None
    return refused or module.verdict.value


def _reasons(outcome: Run) -> str:
    """The reasons of what does not load, those that tell most first."""
    found = [
        f"{module.name}: {module.reason}"
        for module in sorted(outcome.modules, key=lambda each: each.errno in NO_DEVICE)
        if module.verdict is not Verdict.OK
    ]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return found[0] + more if found else ""


def survey(names: Sequence[str], kernels: Sequence[Kernel], until: float) -> None:
    """Try every cell that is not kept, until the clock says `until`."""
    directories = {name: dkms.package(name) for name in names}
    for name in sorted(names, key=lambda name: _size(directories[name])):
        for kernel in kernels:
            path = kept(directories[name], kernel)
            if path.exists():
                continue
            if time.monotonic() > until:
                return
            started = time.monotonic()
            try:
                cell = judge(name, directories[name], kernel)
            except LkmError as error:  # no verdict: not kept, and tried again the next time
                print(f"{name} {kernel.release}: {error}", file=sys.stderr, flush=True)
                continue
            if "ran longer than" in cell.reason:
                print(f"{name} {kernel.release}: {cell.reason}", file=sys.stderr, flush=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(cell)))
            seconds = time.monotonic() - started
            print(
                f"{name} {kernel.release}: {cell.word} {cell.reason} [{seconds:.0f} s]", flush=True
            )


def _size(directory: Path) -> int:
    return sum(file.size for file in sources.files(sources.find(directory)))


def table(names: Iterable[str], kernels: Sequence[Kernel]) -> Iterator[str]:
    """The Markdown of what is kept: a row a package, then the reasons."""
    named = [f"{kernel.release} ({kernel.toolchain.cc})" for kernel in kernels]
    yield f"Kernels: {', '.join(named)}."
    yield ""
    heads = [series_of(kernel.release) for kernel in kernels]
    yield f"| package | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    why: list[str] = []
    for name in names:
        cells = [load(kept(dkms.package(name), kernel)) for kernel in kernels]
        yield f"| {name} | {' | '.join(cell.word if cell else 'not tried' for cell in cells)} |"
        why += _why(name, [cell for cell in cells if cell])
    yield ""
    yield from why


def _why(name: str, cells: Sequence[Cell]) -> Iterator[str]:
    """The reasons of a row, each once, with the kernels that it is of."""
    grouped: dict[str, list[str]] = {}
    for cell in cells:
        if cell.reason:
            grouped.setdefault(_short(cell), []).append(series_of(cell.release))
    if grouped:
        yield f"- **{name}**"
        yield from (f"  - {', '.join(series)}: {reason}" for reason, series in grouped.items())


def _short(cell: Cell) -> str:
    """A reason without paths, columns and the release, so that those of several kernels are the same."""
    text = re.sub(r"^/\S*/([^/\s]+):(\d+):\d+: (?:fatal )?error: ", r"\1:\2: ", cell.reason)
    text = text.replace(cell.release, "this kernel").replace("|", "\\|").replace("<", "\\<")
    return text.replace("*", "\\*").replace("_", "\\_")[:240]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-k", "--kernel", action="append", help=f"default: {' '.join(KERNELS)}")
    parser.add_argument("-p", "--package", action="append", help="default: all of the suite")
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    kernels = [store.get(name) for name in arguments.kernel or KERNELS]
    names = arguments.package or packages(arguments.suite)
    survey(names, kernels, time.monotonic() + 60 * arguments.minutes)
    lines = list(table(names, kernels))
    if arguments.write:
        page.write(arguments.write, MARK, lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
