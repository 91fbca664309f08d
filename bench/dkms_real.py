"""Whether lkm and dkms itself agree on what builds: `dkms build` on the same kernel, with the same compiler.

    python -m bench.dkms_real [-p PACKAGE ...] [-k K ...]

dkms is the script of Debian trixie's package, as it is. It runs in a sandbox made of the kernel's toolchain
root, with the kernel's headers at /usr/src and /lib/modules/RELEASE/build, and trees of its own: nothing of
this computer's dkms, /usr/src or /lib/modules is seen. 2 to 60 s a cell.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lkm import kbuild, proc, project, sandbox
from lkm import source as sources
from lkm.errors import BuildError, ExcludedError
from lkm.kbuild import workdir
from lkm.kbuild.dkms import reading
from lkm.kernels import additions, apt, dkms, downloads, store, toolchain
from lkm.kernels.kernel import Kernel
from lkm.sandbox import Bind
from lkm.source import ModuleSource

PACKAGES = (
    "dkms-test-dkms", "vpoll-dkms", "acpi-call-dkms", "librem-ec-acpi-dkms", "digimend-dkms",
    "xtrx-dkms", "west-chamber-dkms", "lenovolegionlinux-dkms", "mstflint-dkms", "rapiddisk-dkms",
)  # fmt: skip
KERNELS = ("5.10-generic", "6.12-generic", "7.3-generic")
CODES = {0: "builds", 77: "excluded"}
"""What dkms(8) ends with."""


@dataclass(frozen=True)
class Answer:
    """`builds`, `excluded` or `does not build`, the modules that there are, and the last words."""

    state: str
    modules: tuple[str, ...] = ()
    words: str = ""


def dkms_script(into: Path) -> Path:
    """dkms, unpacked from its own package."""
    from lkm.arch import X86_64

    def fetch(world: apt.World) -> None:
        package = apt.alone(world, "dkms")
        print(f"dkms {package.version}", file=sys.stderr)
        toolchain.unpack(downloads.get(world, [package], into), into)

    apt.retrying(apt.world("trixie", X86_64), fetch, progress=_Silent())
    return into / "usr/sbin/dkms"


class _Silent:
    def step(self, text: str) -> None:
        pass

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        pass


def equipped(found: ModuleSource, kernel: Kernel) -> Kernel:
    """The kernel with what the package depends on in its toolchain, as apt would have installed it."""
    wanted = project.build_packages(found)
    return kernel if wanted == project.Packages() else additions.with_packages(kernel, wanted)


def by_dkms(script: Path, found: ModuleSource, kernel: Kernel) -> Answer:
    """What `dkms build` says."""
    work = workdir.work_dir(found, kernel)
    with workdir.locked(work.path, timeout=600):
        workdir.sync(work, workdir.snapshot(found))
        conf = reading.read(found, kernel, work)
    version = found.directory.name.removeprefix(f"{conf.name}-")
    with tempfile.TemporaryDirectory(prefix="dkms-") as made:
        tree = Path(made)
        line = sandbox.argv(
            kernel.toolchain.root,
            ["bash", "/lkm/dkms", "build", "-m", conf.name, "-v", version, "-k", kernel.release, "-a", "x86_64",
             "--dkmstree", "/lkm/tree", "--sourcetree", "/lkm/src", "--installtree", "/lib/modules"],
            binds=[
                *reading.binds(kernel, work),
                Bind(script, "/lkm/dkms"),
                Bind(found.directory, f"/lkm/src/{conf.name}-{version}"),
                Bind(tree, "/lkm/tree", writable=True),
            ],
            env={"LC_ALL": "C"},
        )  # fmt: skip
        done = proc.run(
            [line[0], "--uid", "0", "--gid", "0", *line[1:]], stage="dkms", timeout=1200
        )
        modules = sorted(path.name.partition(".")[0] for path in tree.rglob("module/*.ko*"))
    words = [each for each in done.output.splitlines() if "rror" in each or "BUILD_" in each]
    state = CODES.get(done.returncode, "does not build")
    return Answer(state, tuple(modules), f"{done.returncode} {words[0] if words else ''}".strip())


def by_lkm(found: ModuleSource, kernel: Kernel) -> Answer:
    """What lkm says."""
    try:
        built = kbuild.build(found, kernel)
    except ExcludedError as error:
        return Answer("excluded", words=error.reason)
    except BuildError as error:
        return Answer("does not build", words=error.summary)
    names = sorted(each.path.name.partition(".")[0] for each in built.objects.values())
    return Answer("builds", tuple(names))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-p", "--package", action="append", help=f"default: {' '.join(PACKAGES)}")
    parser.add_argument("-k", "--kernel", action="append", help=f"default: {' '.join(KERNELS)}")
    arguments = parser.parse_args()
    os.nice(10)
    differ = 0
    with tempfile.TemporaryDirectory(prefix="dkms-script-") as made:
        script = dkms_script(Path(made))
        for name in arguments.package or PACKAGES:
            found = sources.find(dkms.package(name))
            for kernel in map(store.get, arguments.kernel or KERNELS):
                theirs, ours = (
                    by_dkms(script, found, equipped(found, kernel)),
                    by_lkm(found, kernel),
                )
                same = (theirs.state, theirs.modules) == (ours.state, ours.modules)
                differ += not same
                verdict = f"both: {ours.state}" if same else f"DIFFER: dkms {theirs}, lkm {ours}"
                print(f"{name} {kernel.release}: {verdict} [{theirs.words}]", flush=True)
    print(f"{differ} differ")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
