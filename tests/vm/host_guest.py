"""A guest that is a computer of its own: Debian with Python, kmod, lkm, modules to load, and a kernel's files.

Frozen once for a kernel and what it is made of, and restored for each test.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from lkm import kbuild, proc, sandbox, source
from lkm.kernels import rootfs as packages
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.ko import read_image
from lkm.vm import accel, snapshot
from lkm.vm.machine import Machine
from lkm.vm.process import Completed, run
from lkm.vm.rootfs import Rootfs
from lkm.vm.snapshot import Snapshot

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "base-files", "dash", "kmod", "libpam0g", "python3", "python3-filelock", "python3-platformdirs",
    "python3-zstandard", "util-linux",
)  # fmt: skip
PYTHON = "usr/lib/python3"
SOURCES = (
    *(ROOT / "examples" / name for name in ("hello", "getargs", "mulfile", "params")),
    ROOT / "tests/data/clock",
    *(
        ROOT / f"tests/data/modules/{name}.c"
        for name in (
            "enodev", "flood", "hang_exit", "late", "needs_dep", "noexit", "nonewline", "oops_exit",
            "oops_init", "sleeper", "warn",
        )
    ),
)  # fmt: skip
HEADERS = (".config", "Module.symvers", "include/generated/uapi/linux/version.h")
"""What `lkm check` reads of a build tree."""
MODULES, CONTRACT, BUILD = "/modules", "/contract.py", "/headers"
"""Where the guest has them."""


@functools.cache
def kernel() -> Kernel:
    """The default kernel."""
    return store.get()


@functools.cache
def images(of: Kernel) -> dict[str, bytes]:
    """The modules that the tests load, by name, as lkm loads them."""
    builds = [kbuild.build(source.find(path), of) for path in SOURCES]
    return {
        name: read_image(built.stripped)
        for build in builds
        for name, built in build.objects.items()
    }


@functools.cache
def frozen() -> Snapshot:
    """The guest, booted now where it is not on this disk."""
    of = kernel()
    unpacked = packages.ensure("trixie", PACKAGES)
    config = accel.machine_config(of, memory_mib=512)
    with tempfile.TemporaryDirectory() as made:
        ours = Path(made)
        identity = f"{unpacked.identity} {_identity(of)}"
        config = replace(config, rootfs=Rootfs("host", (unpacked.root, ours), identity))
        if found := snapshot.find(of, config):
            return found
        _fill(ours, unpacked.root, of)
        return snapshot.prepare(of, config)


def restored() -> Machine:
    """A fresh one."""
    return Machine(snapshot.restore(frozen()), release=kernel().release, timeout=120)


def ours() -> list[Path]:
    """The files that the guest has of this checkout."""
    return [*sorted((ROOT / "src/lkm").rglob("*.py")), Path(__file__).with_name("contract.py")]


def _identity(of: Kernel) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in ours():
        digest.update(f"{path}\0".encode() + path.read_bytes())
    for name, image in images(of).items():
        digest.update(f"{name}\0".encode() + image)
    return digest.hexdigest()


def _fill(root: Path, debian: Path, of: Kernel) -> None:
    """What lies over the packages: lkm, the standard library compiled, modules, the kernel's files."""
    for path in sorted((debian / "usr/lib").glob("python3*")):
        shutil.copytree(path, root / "usr/lib" / path.name, symlinks=True)
    installed = root / PYTHON / "dist-packages"
    for path in ours():
        target = (
            installed / path.relative_to(ROOT / "src")
            if "src" in path.parts
            else root / CONTRACT[1:]
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    _compile(root, debian)
    (root / MODULES[1:]).mkdir()
    for name, image in images(of).items():
        (root / MODULES[1:] / f"{name}.ko").write_bytes(image)
    _kernel_files(root, of)


def _compile(root: Path, debian: Path) -> None:
    # Emulated, Python would take seconds for it at each start.
    argv = ["python3", "-m", "compileall", "-q", "-s", "/ours", "-p", "/"]
    argv += ["--invalidation-mode", "unchecked-hash", "/ours/usr/lib"]
    binds = [sandbox.Bind(root, "/ours", writable=True)]
    proc.run(sandbox.argv(debian, argv, binds=binds), stage="compileall", timeout=300)


def _kernel_files(root: Path, of: Kernel) -> None:
    assert of.modules_dir
    target = root / f"usr/lib/modules/{of.release}"
    target.mkdir(parents=True)
    for path in of.modules_dir.glob("modules.*"):
        shutil.copy(path, target)
    lines = (of.modules_dir / "modules.dep").read_text().splitlines()
    names = [line.partition(":")[0] for line in lines]
    for name in names:
        if name in names[:16] or "/lib/crc" in name:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(of.modules_dir / name, target / name)
    for name in HEADERS:
        copy = root / BUILD[1:] / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(of.build_dir_on_host / name, copy)


def lkm(machine: Machine, *words: str, under: tuple[str, ...] = ()) -> Completed:
    """`lkm WORDS...` on the guest, as root, or as what the program `under` makes of it."""
    return run(machine, [*under, "python3", "-m", "lkm", *words])


def install_headers(machine: Machine) -> None:
    """Have the link that `apt-get install linux-headers-RELEASE` makes."""
    link = f"/usr/lib/modules/{machine.release}/build"
    run(machine, ["ln", "-s", BUILD, link]).check()
