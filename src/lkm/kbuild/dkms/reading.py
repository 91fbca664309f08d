"""A dkms.conf is a shell script: it is evaluated in the sandbox, and only its values come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lkm import sandbox
from lkm.errors import BuildError
from lkm.kbuild import make
from lkm.kbuild.diagnostics import Diagnostic
from lkm.kbuild.dkms import conf
from lkm.kbuild.dkms.conf import Conf
from lkm.kbuild.limits import Limits
from lkm.kbuild.workdir import WorkDir
from lkm.kernels.kernel import Kernel
from lkm.sandbox import Bind
from lkm.source import DKMS_CONF, ModuleSource

__all__ = ["DKMS_TREE", "binds", "complaints", "read", "script", "variables"]

DKMS_TREE = "/lkm/dkms"
"""$dkms_tree in the sandbox: dkms's own is /var/lib/dkms."""

_SHOWN = "/lkm/source"
_TOLD = 10
"""How many lines of what a file writes to stderr become warnings."""

LIMITS = Limits(seconds=10, processes=64, memory=1 << 30, file=1 << 20, output=1 << 20)
"""What reading a dkms.conf may use."""


def read(source: ModuleSource, kernel: Kernel, work: WorkDir, limits: Limits = LIMITS) -> Conf:
    """What the dkms.conf in the work tree, a copy of the source's, says for `kernel`.

    It sees the source and the kernel's build tree, read-only, and a /tmp of its own; no network. Raises
    BuildError for one that dkms would not take, and for one that goes over `limits`, HostError where
    there is no sandbox.
    """
    command = make.limited(
        sandbox.argv(
            kernel.toolchain.root,
            ["/bin/bash", "-c", script("read"), "bash", f"{_SHOWN}/{DKMS_CONF}"],
            binds=[*binds(kernel, work), Bind(work.tree, _SHOWN)],
            env=variables(kernel),
        ),
        limits,
    )
    output = bytearray()
    returncode, stopped = make.execute(command, work.tree, limits, output.extend)
    if stopped:
        raise _bad(source, kernel, [f"it {stopped}, and was ended"])
    if returncode and not output.startswith(b"started"):
        raise make.no_sandbox(source, kernel, output.decode(errors="replace").splitlines())
    found = conf.values(bytes(output))
    if found is None:
        raise _bad(source, kernel, ["its values cannot be read: it ended the shell that reads it"])
    if wrong := conf.faults(found):
        said = _relocated(tuple(found.scalar("said").splitlines()), source)
        raise _bad(source, kernel, [*wrong, *said])
    meant = conf.interpret(found, kernel.release, kernel.arch.name)
    return replace(meant, said=_relocated(meant.said, source))


def _bad(source: ModuleSource, kernel: Kernel, why: list[str]) -> BuildError:
    return BuildError(
        f"{source.name} does not build for {kernel.release}: its dkms.conf is not one that dkms takes:"
        f" {why[0]}",
        diagnostics=why,
        hint=f"look at {source.directory / DKMS_CONF}; man dkms tells what it has to have",
    )


def _relocated(lines: tuple[str, ...], source: ModuleSource) -> tuple[str, ...]:
    return tuple(line.replace(f"{_SHOWN}/", f"{source.directory}/") for line in lines)


def complaints(source: ModuleSource, said: Conf) -> tuple[Diagnostic, ...]:
    """What is to be told of a dkms.conf besides its values: what it wrote to stderr, and what it needs."""
    path = str(source.directory / DKMS_CONF)
    lines = list(said.said[:_TOLD])
    if len(said.said) > _TOLD:
        lines.append(f"{path}: and {len(said.said) - _TOLD} lines more")
    if said.needs:
        lines.append(
            f"{path}: BUILD_DEPENDS names {', '.join(said.needs)}, which is not there: as with dkms --force"
        )
    return tuple(
        Diagnostic(path, None, None, "warning", line.removeprefix(f"{path}: "), (line,))
        for line in lines
    )


def variables(kernel: Kernel) -> dict[str, str]:
    """The variables that dkms has for a dkms.conf (its man page, and what packages use besides)."""
    build_dir = f"/lib/modules/{kernel.release}/build"
    configs = ("include/config/auto.conf", ".config")
    found = (name for name in configs if (kernel.build_dir_on_host / name).is_file())
    return {
        "LC_ALL": "C",  # a toolchain root has no other locale, and bash complains
        "kernelver": kernel.release,
        "arch": kernel.arch.name,
        "kernel_source_dir": build_dir,
        "kernel_config": f"{build_dir}/{next(found, configs[1])}",
        "dkms_tree": DKMS_TREE,
        "source_tree": "/usr/src",
        "install_tree": "/lib/modules",
    }


def binds(kernel: Kernel, work: WorkDir) -> list[Bind]:
    """The kernel's files, and /lib/modules with the links that its packages have there."""
    links = work.path / "modules"
    home = links / kernel.release
    home.mkdir(parents=True, exist_ok=True)
    common = (inside for _, inside in kernel.binds if inside.endswith("-common"))
    for name, target in (("build", kernel.build_dir), ("source", next(common, kernel.build_dir))):
        link = home / name
        if not link.is_symlink():
            link.symlink_to(target)
    shown = [Bind(host, inside) for host, inside in kernel.binds]
    shown.sort(key=lambda bind: bind.inside.count("/"))
    if kernel.build_dir.startswith("/lib/modules/"):
        return shown
    return [*shown, Bind(links, "/lib/modules")]


def script(name: str) -> str:
    """The text of the bash script of that name beside this file."""
    return Path(__file__).with_name(f"{name}.sh").read_text("utf-8")
