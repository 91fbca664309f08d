"""How a debug kernel is built: a source tree configured, compiled and taken apart, in a toolchain root."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import atomic, proc, sandbox
from lkm.errors import HostError
from lkm.kernels import kconfig
from lkm.kernels.kernel import Toolchain
from lkm.progress import Progress

__all__ = ["PACKAGES", "Work", "collect", "compile_kernel", "configure", "unpack_tree"]

PACKAGES = ("bison", "flex", "libelf-dev", "lz4")
"""What the build of a kernel needs beside what builds of modules do."""

OBJECTS = 1340
"""How many objects there are to compile: counted for 6.12, and near enough for its neighbours."""
CORE_SECONDS = 0.8
"""Seconds that one core takes for an object, about: the first guess, before there is anything to go by."""

_MAKE_LIMIT = 4 * 3600.0
_STEP_LIMIT = 1200.0

SWITCHES = (
    "DEBUG_CFLAGS=", "UBSAN_SANITIZE=n", "KASAN_SANITIZE_lockdep.o=n", "KASAN_SANITIZE_spinlock.o=n",
    "KASAN_SANITIZE_spinlock_debug.o=n", "KASAN_SANITIZE_debugobjects.o=n",
    "KASAN_SANITIZE_unwind_frame.o=n", "KASAN_SANITIZE_trace_preemptirq.o=n",
    "KASAN_SANITIZE_smp_processor_id.o=n",
)  # fmt: skip
"""Variables of the kernel's build alone (scripts/Makefile.debug, Makefile.lib): its own objects have neither
DWARF nor UBSAN, which take time and space; modules, by its .config, have both. And what checks each lock and
notes each stack is not itself watched by KASAN: that was a quarter of what the guest executed."""

_EXTRA = "/lkm-packages"


@dataclass(frozen=True)
class Work:
    """A place where a kernel is built: the source `tree`, the toolchain, and `extra` packages, unpacked.

    `log` is what make says, kept when a build fails.
    """

    tree: Path
    toolchain: Toolchain
    extra: Path
    log: Path
    release: str

    @property
    def compilers(self) -> tuple[str, str]:
        """make's words for the compiler by the name that builds of modules use, or Kbuild warns of another."""
        return f"CC={self.toolchain.cc}", f"HOSTCC={self.toolchain.cc}"

    def argv(self, command: Sequence[str]) -> list[str]:
        """`command` in the sandbox, in the tree, which is all that it can write to."""
        binds = [
            sandbox.Bind(self.tree, "/build", writable=True),
            sandbox.Bind(self.extra, _EXTRA),
        ]
        return sandbox.argv(
            self.toolchain.root, command, binds=binds, cwd="/build", env=_environment()
        )


def _environment() -> Mapping[str, str]:
    """Where the tools of PACKAGES find their parts when they are not in /usr."""
    usr, multiarch = f"{_EXTRA}/usr", "x86_64-linux-gnu"
    return {
        "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{usr}/bin",
        "M4": f"{usr}/bin/m4",
        "BISON_PKGDATADIR": f"{usr}/share/bison",
        "C_INCLUDE_PATH": f"{usr}/include",
        "LIBRARY_PATH": f"{usr}/lib/{multiarch}:{_EXTRA}/lib/{multiarch}",
        "KBUILD_BUILD_USER": "lkm",
        "KBUILD_BUILD_HOST": "lkm",
    }


def unpack_tree(work: Work, archive: str) -> None:
    """The source tree in `work.tree`, out of an archive that lies in it; the archive is deleted."""
    command = f"tar --strip-components=1 -xf {shlex.quote(archive)} && rm {shlex.quote(archive)}"
    _run(work, ["sh", "-c", command], f"unpacking the source of {work.release}")


def configure(work: Work, fragment: str) -> None:
    """A .config of tinyconfig and `fragment`. Raises HostError that names what Kconfig dropped of it."""
    configured = work.tree / "lkm.configured"
    if configured.exists():
        return
    asked = kconfig.fragment_for(work.release, fragment)
    (work.tree / "lkm.config").write_text(asked)
    make = shlex.join(["make", "-s", *work.compilers])
    command = f"{make} tinyconfig && cat lkm.config >> .config && {make} olddefconfig"
    _run(work, ["sh", "-c", command], f"configuring {work.release}")
    if lost := kconfig.dropped(asked, (work.tree / ".config").read_text()):
        names = ", ".join(f"CONFIG_{each.name}" for each in lost)
        raise HostError(
            f"the configuration of {work.release} is not what was asked for: {names}",
            evidence=[str(each) for each in lost],
            hint="another series may have them all: --kernel debug",
        )
    configured.touch()


def compile_kernel(work: Work, progress: Progress) -> None:
    """Image and modules, made on all processors; what an interrupted build has made is not made again."""
    jobs = proc.cores()
    minutes = OBJECTS * CORE_SECONDS / jobs / 60
    about = f"{OBJECTS} objects, about {minutes:.0f} minutes on {jobs} idle processors"
    progress.step(f"building {work.release} (once): {about}")
    made_before = sum(1 for _ in work.tree.rglob("*.o"))
    count = Count(progress, time.monotonic, made_before)
    command = ["make", f"-j{jobs}", *work.compilers, *SWITCHES, "bzImage", "modules"]
    _run(work, command, f"building {work.release}", limit=_MAKE_LIMIT, on_line=count.line)
    release = (work.tree / "include/config/kernel.release").read_text().strip()
    if release != work.release:
        raise HostError(f"the source of {work.release} says that it is {release}")


_COMPILED = re.compile(r"  (?:CC|AS)      (?!\[M\] .*\.mod\.o)")


@dataclass
class Count:
    """Tells `progress` how many objects make has compiled, and how long the rest will take.

    `before` are those that an earlier try has made.
    """

    progress: Progress
    clock: Callable[[], float]
    before: int = 0
    done: int = 0
    started: float = 0.0

    def line(self, line: str) -> None:
        """A line that make printed."""
        if not _COMPILED.match(line):
            return
        self.started = self.started or self.clock()
        self.done += 1
        there = self.before + self.done
        total = max(OBJECTS, there)
        self.progress.amount(there, total, f"objects{self._left(total - there)}")

    def _left(self, objects: int) -> str:
        if self.done < 50:
            return ""
        seconds = (self.clock() - self.started) / self.done * objects
        return f", {seconds / 60:.0f} min left" if seconds >= 60 else ", a minute left"


_COLLECT = """
set -e
out=$1 release=$2
headers=$out/usr/src/linux-headers-$release modules=$out/lib/modules/$release
mkdir -p "$headers" "$modules" "$out/boot"
cp arch/x86/boot/bzImage "$out/boot/vmlinuz-$release"
cp System.map "$out/boot/System.map-$release"
cp .config "$out/boot/config-$release"
for list in modules.order modules.builtin modules.builtin.modinfo; do
    if [ -e $list ]; then cp $list "$modules"; fi
done
{
    echo Makefile
    find arch/x86 -maxdepth 1 -name 'Makefile*'
    find arch/x86/include include scripts ! -type d
    find tools/objtool -maxdepth 1 -type f -name objtool
    echo .config
    echo Module.symvers
} | grep -vE '[.](o|a|cmd|d)$|/[.]tmp|^include/dt-bindings/|^scripts/(dtc|package|coccinelle)/' |
    tar -cf - -T - | tar -xf - -C "$headers"
"""
"""The image, and what builds of external modules read: the list of scripts/package/install-extmod-build
(6.12), which older series do not have."""


def collect(work: Work, into: Path) -> None:
    """Copies what is kept of a built tree into the directory `into`, laid out as Debian's packages are."""
    kept = work.tree / "lkm-kept"
    atomic.remove(kept)
    kept.mkdir()
    _run(
        work,
        ["sh", "-c", _COLLECT, "collect", "lkm-kept", work.release],
        f"collecting {work.release}",
    )
    for entry in kept.iterdir():
        entry.rename(into / entry.name)


def _run(
    work: Work,
    command: Sequence[str],
    stage: str,
    *,
    limit: float = _STEP_LIMIT,
    on_line: Callable[[str], None] | None = None,
) -> None:
    with work.log.open("a") as log:

        def note(line: str) -> None:
            log.write(f"{line}\n")
            if on_line:
                on_line(line)

        done = proc.run(
            work.argv(command), stage=stage, timeout=limit, on_line=note, keep_lines=400
        )
    if done.returncode:
        raise _failure(work, stage, done.output.splitlines())


_TELLING = re.compile(r"error|\*\*\*|No space left|cannot|not found|Killed", re.IGNORECASE)


def _failure(work: Work, stage: str, lines: Sequence[str]) -> HostError:
    telling = [line for line in lines if _TELLING.search(line)]
    if full := [line for line in telling if "No space left" in line]:
        return atomic.no_space(stage, tuple(full[-2:]))
    sandbox.check_usable(work.toolchain.root)
    return HostError(
        f"{stage} failed", evidence=telling[-8:] or lines[-8:], hint=f"the whole log: {work.log}"
    )
