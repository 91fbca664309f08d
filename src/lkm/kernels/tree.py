"""Provider `tree`: a kernel source tree that its owner has configured and built, of any version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from lkm.arch import ARCHES, Arch
from lkm.errors import UsageError
from lkm.kernels import toolchain
from lkm.kernels.kernel import Kernel
from lkm.progress import SILENT, Progress

__all__ = ["assemble", "identity_of", "kernel"]

_NEEDED = (
    (".config", "defconfig"),
    ("include/config/kernel.release", "modules_prepare"),
    ("include/generated/autoconf.h", "modules_prepare"),
    ("scripts/mod/modpost", "modules_prepare"),
    ("Module.symvers", "modules"),
)
"""Files that external modules need (Documentation/kbuild/modules.rst), and the targets that make them."""

PROGRAMS = ("scripts/basic/fixdep", "scripts/mod/modpost", "tools/objtool/objtool")


def kernel(path: Path, *, progress: Progress = SILENT) -> Kernel:
    """The kernel that the tree at `path` was built into (an `O=` directory is one, too).

    The tree is used where it is, read-only. Its toolchain is that of the oldest Debian suite with the gcc that
    built it, made first where it is missing. Raises UsageError that names a missing file and the
    command that makes it.
    """
    path = path.resolve()
    if not path.is_dir():
        raise UsageError(
            f"{path} is not a directory", hint="write tree:PATH of a built kernel tree"
        )
    for name, target in _NEEDED:
        if not (path / name).is_file():
            raise _not_built(path, name, target)
    arch = _arch(path)
    image = _image(path, arch)
    release = (path / "include/config/kernel.release").read_text().strip()
    return assemble(
        provider="tree",
        release=release,
        arch=arch,
        image=image,
        build_dir=path,
        shown=_shown(path),
        system_map=path / "System.map",
        modules_dir=_modules_dir(path, release),
        progress=progress,
    )


def assemble(
    *,
    provider: str,
    release: str,
    arch: Arch,
    image: Path,
    build_dir: Path,
    shown: Iterable[Path],
    system_map: Path,
    modules_dir: Path | None,
    progress: Progress,
) -> Kernel:
    """A Kernel of files that the store does not own: `shown` are bound at their own absolute paths."""
    config = build_dir / ".config"
    suite, cc = toolchain.compiler_for(
        int(_config_value(config, "GCC_VERSION") or 0),
        toolchain.glibc_needed(build_dir / name for name in PROGRAMS),
        str(build_dir),
    )
    tools = toolchain.ensure(suite, cc, arch=arch, progress=progress)
    directories = tuple(dict.fromkeys(shown))
    toolchain.add_mount_points(tools.root, map(str, directories))
    return Kernel(
        release=release,
        arch=arch,
        provider=provider,
        image=image,
        build_dir=str(build_dir),
        binds=tuple((directory, str(directory)) for directory in directories),
        config=config,
        toolchain=tools,
        identity=identity_of(release, build_dir, image),
        system_map=system_map if system_map.is_file() else None,
        modules_dir=modules_dir,
    )


def identity_of(release: str, build_dir: Path, image: Path) -> str:
    """A digest of the sizes and times of the files that a new build of the kernel changes."""
    digest = hashlib.sha256(f"{release}\0{build_dir}\0".encode())
    names = (".config", "Module.symvers", "include/generated/autoconf.h", "scripts/mod/modpost")
    for path in (image, *(build_dir / name for name in names)):
        if path.exists():
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _not_built(path: Path, name: str, target: str) -> UsageError:
    return UsageError(
        f"{path} is not a built kernel tree: {name} is missing", hint=f"make -C {path} {target}"
    )


def _config_value(config: Path, name: str) -> str | None:
    found = re.search(rf"^CONFIG_{name}=(.*)$", config.read_text(), re.MULTILINE)
    return found[1].strip('"') if found else None


def _arch(path: Path) -> Arch:
    config = path / ".config"
    for arch in ARCHES:
        if _config_value(config, arch.name.upper()) == "y":
            return arch
    known = ", ".join(f"CONFIG_{arch.name.upper()}" for arch in ARCHES)
    raise UsageError(
        f"{path} is built for an architecture that lkm does not know",
        evidence=[f"{config} sets none of {known}"],
        hint=f"configure it for one of {', '.join(arch.name for arch in ARCHES)}",
    )


def _image(path: Path, arch: Arch) -> Path:
    for name in arch.image_names:
        if (path / name).is_file():
            return path / name
    name = arch.image_names[0]
    raise _not_built(path, name, Path(name).name)


def _shown(path: Path) -> list[Path]:
    """The tree, and the sources that an `O=` directory refers to through its `source` link."""
    source = path / "source"
    return [source.resolve(), path] if source.is_symlink() and source.is_dir() else [path]


def _modules_dir(path: Path, release: str) -> Path | None:
    """Where `make modules_install INSTALL_MOD_PATH=PATH` puts them, if that was done."""
    directory = path / "lib/modules" / release
    return directory if (directory / "modules.dep").is_file() else None
