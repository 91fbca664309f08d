"""Provider `tree`: a kernel source tree that its owner has configured and built, of any version."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lkm.arch import ARCHES, Arch
from lkm.errors import UsageError
from lkm.kernels import kconfig, toolchain
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.progress import SILENT, Progress

__all__ = ["assemble", "kernel"]

_NEEDED = (
    "include/config/auto.conf",
    "include/config/kernel.release",
    "include/generated/autoconf.h",
    "scripts/basic/fixdep",
    "scripts/mod/modpost",
    "Module.symvers",
)
"""What builds of external modules read and run (Documentation/kbuild/modules.rst), beside sources."""

_OBJTOOL = "tools/objtool/objtool"
_OBJTOOL_OPTIONS = ("OBJTOOL", "STACK_VALIDATION")
"""Linux 6.0 and later, and before: with either of them every object goes through objtool."""

_PROGRAMS = (
    "scripts/basic/fixdep", "scripts/genksyms/genksyms", "scripts/mod/modpost", _OBJTOOL,
    "tools/bpf/resolve_btfids/resolve_btfids",
)  # fmt: skip
"""The tree's own programs that builds of external modules may run."""


def kernel(path: Path, *, progress: Progress = SILENT) -> Kernel:
    """The kernel that the tree at `path` was built into (an `O=` directory is one, too).

    The tree is used where it is, read-only. Its toolchain is that of the oldest Debian suite with the gcc that
    built it, made first where it is missing. Raises UsageError that names the file which is missing,
    unreadable, or does not belong to this build, and what to type.
    """
    path = Path(os.path.realpath(path))
    with _readable(path):
        config = _checked_config(path)
        arch = _arch(path, config)
        release = _checked_release(path, arch, config)
        return assemble(
            provider="tree",
            release=release,
            arch=arch,
            image=_image(path, arch),
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
    config = kconfig.options(build_dir / ".config")
    suite, cc = toolchain.compiler_for(
        int(config.get("GCC_VERSION", 0)),
        toolchain.glibc_needed(build_dir / name for name in _PROGRAMS),
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
        config=build_dir / ".config",
        toolchain=_spelled(tools, config),
        identity=_identity(release, build_dir, image, modules_dir),
        system_map=system_map if system_map.is_file() else None,
        modules_dir=modules_dir,
    )


def _spelled(tools: Toolchain, config: Mapping[str, str]) -> Toolchain:
    """The toolchain with its compiler by the name that built the kernel, where the root has that name.

    gcc's first line of --version starts with it, and Kbuild warns where that line is another one than
    CONFIG_CC_VERSION_TEXT (Makefile, target prepare of external modules).
    """
    name = config.get("CC_VERSION_TEXT", "").partition(" ")[0]
    known = re.fullmatch(r"[\w.+-]+", name) and (tools.root / "usr/bin" / name).exists()
    return replace(tools, cc=name) if known else tools


def _identity(release: str, build_dir: Path, image: Path, modules_dir: Path | None) -> str:
    """A digest of the sizes and times of the files that a new build of the kernel changes."""
    digest = hashlib.sha256(f"{release}\0{build_dir}\0".encode())
    names = (".config", "Module.symvers", "include/generated/autoconf.h", "scripts/mod/modpost")
    files = [image, *(build_dir / name for name in names)]
    if modules_dir:
        files.append(modules_dir / "modules.dep")
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise _unreadable(path, Path(os.fsdecode(error.filename or path))) from error


def _unreadable(path: Path, file: Path) -> UsageError:
    above = reversed(path.parents)
    closed = next((up for up in above if not os.access(up, os.X_OK)), None)
    return UsageError(
        f"{file} is not readable by you",
        hint=f"sudo chmod a+x {shlex.quote(str(closed))}" if closed else _open_up(path),
    )


def _open_up(path: Path) -> str:
    return f"sudo chmod -R a+rX {shlex.quote(str(path))}"


def _checked_config(path: Path) -> dict[str, str]:
    """The configuration of a directory in which make can work and that has one."""
    if not path.is_dir():
        raise UsageError(
            f"{path} is not a directory", hint="write tree:PATH of a built kernel tree"
        )
    if re.search(r"[\s:]", str(path)):
        raise UsageError(
            f"make cannot work in {str(path)!r}: its path has a blank or a colon",
            hint=shlex.join(["mv", str(path), re.sub(r"[\s:]+", "-", str(path))]),
        )
    if not (path / "Makefile").is_file():
        raise UsageError(
            f"{path} is not a kernel tree: it has no Makefile",
            hint="write tree:PATH of a built kernel tree",
        )
    if not (path / ".config").is_file():
        raise UsageError(
            f"{path} is not a configured kernel tree: it lacks .config",
            evidence=["a kernel that was built with O=DIR is tree:DIR"],
            hint=f"make -C {path} defconfig bzImage modules",
        )
    config = kconfig.options(path / ".config")
    if config.get("MODULES") != "y":
        source = _shown(path)[0]
        raise UsageError(
            f"{path}/.config does not set CONFIG_MODULES",
            hint=f"{source}/scripts/config --file {path}/.config -e MODULES && {_rebuild(path)}",
        )
    return config


def _rebuild(path: Path) -> str:
    return f"make -C {path} olddefconfig bzImage modules"


def _checked_release(path: Path, arch: Arch, config: Mapping[str, str]) -> str:
    """The release of a tree whose files are there and from one build."""
    names = [name for name in _NEEDED if not (path / name).is_file()]
    if _wants_objtool(config) and not (path / _OBJTOOL).is_file():
        names.append(_OBJTOOL)
    image = _image(path, arch)
    if not image.is_file():
        names.append(str(image.relative_to(path)))
    if names:
        raise UsageError(
            f"{path} is not a built kernel tree: it lacks {', '.join(names)}",
            hint=f"make -C {path} {image.name} modules",
        )
    _check_open(path)
    _check_up_to_date(path, config)
    release = (path / "include/config/kernel.release").read_text().strip()
    booted = _image_release(image)
    if booted not in (None, release):
        raise UsageError(
            f"{image} is of another build: it is {booted}, and the tree is {release}",
            hint=f"make -C {path} {image.name} modules",
        )
    return release


def _check_open(path: Path) -> None:
    """Refuse a tree that only root's privilege opens: builds run without it."""
    if os.geteuid() != 0:
        return
    for file in (*_shown(path), *(path / name for name in _NEEDED)):
        status = file.stat()
        if status.st_uid != 0 and not status.st_mode & stat.S_IROTH:
            raise UsageError(
                f"{file} is readable by its owner alone, and builds run without root's privilege",
                hint=_open_up(path),
            )


def _wants_objtool(config: Mapping[str, str]) -> bool:
    return any(config.get(name) == "y" for name in _OBJTOOL_OPTIONS)


def _check_up_to_date(path: Path, config: Mapping[str, str]) -> None:
    """Refuse a .config that is not the one which the tree was built with (kept in auto.conf)."""
    built = kconfig.options(path / "include/config/auto.conf")
    changed = sorted(name for name in {*config, *built} if config.get(name) != built.get(name))
    if changed:
        rows = [
            f"CONFIG_{name} is {config.get(name, 'not set')} now, and was {built.get(name, 'not set')}"
            for name in changed[:3]
        ]
        more = [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
        raise UsageError(
            f"{path}/.config was changed after the kernel was built",
            evidence=[*rows, *more],
            hint=_rebuild(path),
        )


def _image_release(image: Path) -> str | None:
    """The release in the setup header of an x86 image; None where there is none.

    Documentation/arch/x86/boot.rst: "HdrS" at 0x202, and at 0x20e the place of a string, less 0x200.
    """
    with image.open("rb") as file:
        head = file.read(0x8000 + 0x200)
    if head[0x202:0x206] != b"HdrS":
        return None
    start = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    words = head[start:].partition(b"\0")[0].split()
    return words[0].decode(errors="replace") if words else None


def _arch(path: Path, config: Mapping[str, str]) -> Arch:
    for arch in ARCHES:
        if config.get(arch.name.upper()) == "y":
            return arch
    known = ", ".join(f"CONFIG_{arch.name.upper()}" for arch in ARCHES)
    raise UsageError(
        f"{path} is built for an architecture that lkm does not know",
        evidence=[f"{path / '.config'} sets none of {known}"],
        hint=f"configure it for one of {', '.join(arch.name for arch in ARCHES)}",
    )


def _image(path: Path, arch: Arch) -> Path:
    """The image that is there, or the one that would be."""
    images = [path / name for name in arch.image_names]
    return next((image for image in images if image.is_file()), images[0])


def _shown(path: Path) -> list[Path]:
    """The tree, and the sources that an `O=` directory refers to through its `source` link."""
    link = path / "source"
    if not link.is_symlink():
        return [path]
    if not link.is_dir():
        raise UsageError(
            f"the sources of {path} are not here any more: {link} leads to {link.readlink()}",
            hint=f"make -C SOURCES O={path} bzImage modules, with SOURCES where they are now",
        )
    return [link.resolve(), path]


def _modules_dir(path: Path, release: str) -> Path | None:
    """Where `make modules_install INSTALL_MOD_PATH=PATH` puts them, if that was done."""
    directory = path / "lib/modules" / release
    return directory if (directory / "modules.dep").is_file() else None
