"""Provider `host`: the kernel that this computer runs, from /boot and /lib/modules."""

from __future__ import annotations

import os
from pathlib import Path

from lkm.arch import host_arch
from lkm.errors import HostError
from lkm.kernels import tree
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.progress import SILENT, Progress

__all__ = ["kernel", "running"]


def kernel(
    *, root: Path = Path("/"), release: str | None = None, progress: Progress = SILENT
) -> Kernel:
    """The running kernel (`uname -r`), or another `release` that is installed below `root`.

    Raises HostError that names the package where its headers or image are not installed, or are not readable.
    """
    release = release or os.uname().release
    modules = root / "lib/modules" / release
    build = modules / "build"
    if not (build / ".config").is_file():
        raise _missing(release, build, "headers")
    image = _image(root, modules, release)
    build = build.resolve()
    return tree.assemble(
        provider="host",
        release=release,
        arch=host_arch(),
        image=image,
        build_dir=build,
        shown=_shown(build),
        system_map=root / f"boot/System.map-{release}",
        modules_dir=modules,
        progress=progress,
    )


def running(*, root: Path = Path("/")) -> Kernel:
    """The running kernel as far as loading built modules goes: any of its files may be missing.

    It can be neither built for nor booted: its toolchain is none.
    """
    release = os.uname().release
    modules = root / "lib/modules" / release
    configs = (modules / "build/.config", modules / "config", root / f"boot/config-{release}")
    return Kernel(
        release=release,
        arch=host_arch(),
        provider="host",
        image=root / f"boot/vmlinuz-{release}",
        build_dir=f"/lib/modules/{release}/build",
        binds=(),
        config=next((path for path in configs if path.is_file()), configs[0]),
        toolchain=Toolchain("none", root, "none", "none"),
        identity=release,
        modules_dir=modules if (modules / "modules.dep").is_file() else None,
    )


def _missing(release: str, path: Path, kind: str) -> HostError:
    return HostError(
        f"the {kind} of the running kernel {release} are not here: {path} is missing",
        hint=f"sudo apt-get install linux-{kind}-{release}, or use another kernel: --kernel 6.12",
    )


def _image(root: Path, modules: Path, release: str) -> Path:
    """/boot/vmlinuz-RELEASE, or vmlinuz beside the modules (Fedora, Arch, Debian since 7.x)."""
    candidates = (root / f"boot/vmlinuz-{release}", modules / "vmlinuz")
    for path in candidates:
        if path.is_file():
            return _readable(path)
    raise HostError(
        f"the image of the running kernel {release} is not here: {candidates[0]} is missing",
        hint=f"sudo apt-get install linux-image-{release}, or use another kernel: --kernel 6.12",
    )


def _readable(image: Path) -> Path:
    if not os.access(image, os.R_OK):
        raise HostError(f"{image} is not readable", hint=f"sudo chmod a+r {image}")
    return image


def _shown(build: Path) -> list[Path]:
    """The build directory and what its links lead to; all of src where headers are split there."""
    src = next((parent for parent in build.parents if parent.parts[-2:] == ("usr", "src")), None)
    shown = [src or build]
    for entry in sorted(build.iterdir()):
        target = entry.resolve()
        if entry.is_symlink() and target.exists() and not target.is_relative_to(shown[0]):
            # scripts -> /usr/lib/linux-kbuild-6.1/scripts: its siblings are referred to as well.
            shown.append(target.parent)
    return list(dict.fromkeys(shown))
