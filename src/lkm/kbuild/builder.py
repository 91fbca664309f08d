"""Module source + kernel -> kernel objects, by the real Kbuild, in a sandbox, once for each content.

    source -> snapshot -> content key -> store?  -> published files
                              | miss
                              work tree -> make -> diagnostics, .ko, compile_commands.json -> store

The user's source is never writable and never written to by make: it works on private copies that the sandbox
shows at the source's own path, so that every path it prints, or puts into DWARF, is the user's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lkm import project
from lkm.errors import ExcludedError, HostError, UsageError
from lkm.kbuild import artifacts, diagnostics, make, workdir
from lkm.kbuild.diagnostics import Diagnostic
from lkm.kbuild.failure import failure, no_space
from lkm.kbuild.limits import Limits, chosen
from lkm.kbuild.make import Outcome, Place
from lkm.kbuild.workdir import Copy, SourceChangedError, WorkDir
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.progress import SILENT, Progress
from lkm.source import ModuleSource, is_ours

if TYPE_CHECKING:
    from lkm.ko import KernelObject

__all__ = ["Build", "BuiltObject", "build", "clean"]

VERSION = 2
"""Part of every content key: raise it when the same input would give another result."""


@dataclass(frozen=True)
class BuiltObject:
    """A kernel object that a build made.

    `name` is the module's, with underscores. `path` is the published .ko with debug info, `stripped` the
    copy without it and without BTF, in the store, which stays while the build is among the last few of its
    source. `size` is that of `path` in bytes, `facts` what `lkm.ko` reads from it, as plain data.
    """

    name: str
    path: Path
    stripped: Path
    size: int
    facts: dict[str, Any]

    @property
    def kernel_object(self) -> KernelObject:
        """The facts as an object; the file is not read again."""
        from lkm.ko import KernelObject

        return KernelObject.from_dict(self.facts)


@dataclass(frozen=True)
class Build:
    """What building a source for a kernel gave.

    `objects` are all its modules by name, in the order of modules.order. `cached` says that make did not run;
    the diagnostics are then those of the build that did: a warning does not go away by being looked at
    twice. `compiled_at` is where the sandbox showed the source: a prefix of the paths in DWARF; it differs
    from the source's directory where make could not have coped with that. `read_at` is when the source was
    read, in seconds since the epoch. `seconds` is the whole call.
    """

    release: str
    source: ModuleSource
    objects: dict[str, BuiltObject]
    diagnostics: tuple[Diagnostic, ...]
    log_path: Path
    compiled_at: str
    cached: bool
    seconds: float
    read_at: float

    @property
    def output(self) -> tuple[str, ...]:
        """Every line that make and its children printed."""
        return tuple(self.log_path.read_text("utf-8", errors="replace").splitlines())


def build(
    source: ModuleSource,
    kernel: Kernel,
    *,
    extra_flags: Sequence[str] = (),
    progress: Progress = SILENT,
    output: Path | None = None,
    limits: Limits | None = None,
) -> Build:
    """Build `source` for `kernel` and publish the artifacts in `output`, by default `DIR/build`, below RELEASE.

    `limits` are the user's (`limits.chosen`) where they are not given. `extra_flags` are compiler flags
    (`-DDEBUG`, through KCFLAGS) and make variables (`W=1`). Unchanged input runs nothing. Published are the .ko
    files, Module.symvers, compile_commands.json and build.log.

    A source with a dkms.conf is built as that says, and one whose lkm.toml names Debian packages has these in
    its toolchain, fetched where they are not on this disk. Raises BuildError where the source does not build
    or goes over `limits`, ExcludedError where its dkms.conf says that it is not for this kernel, UsageError
    where there is no module in it, HostError where this computer cannot build or hold it.
    """
    started, read_at = time.monotonic(), time.time()
    limits = limits or chosen()
    arguments = make.make_arguments(extra_flags)
    kernel = _equipped(source, kernel, progress)
    work = workdir.work_dir(source, kernel)
    with _disk_errors(source):
        base, mark = artifacts.claim(source, output)
        _check_writable(base)
        stored, cached = _stored(source, kernel, work, arguments, progress, limits)
        target = base / kernel.release
        if not artifacts.is_published(stored, target):
            with workdir.locked(work.path, timeout=limits.seconds):
                artifacts.publish(stored, base, kernel.release, mark=mark, only=not source.file)
    return _build(source, kernel, stored, target, cached, time.monotonic() - started, read_at)


def _build(
    source: ModuleSource,
    kernel: Kernel,
    stored: artifacts.Stored,
    target: Path,
    cached: bool,
    seconds: float,
    read_at: float,
) -> Build:
    manifest = stored.manifest
    objects = {
        module["name"]: BuiltObject(
            module["name"], target / module["file"], stored.path / module["stripped"],
            manifest["sizes"][module["file"]], module["facts"],
        )
        for module in manifest["modules"]
    }  # fmt: skip
    return Build(
        release=kernel.release,
        source=source,
        objects=objects,
        diagnostics=tuple(map(Diagnostic.from_dict, manifest["diagnostics"])),
        log_path=target / "build.log",
        compiled_at=manifest["compiled_at"],
        cached=cached,
        seconds=seconds,
        read_at=read_at,
    )


def _stored(
    source: ModuleSource, kernel: Kernel, work: WorkDir, arguments: Sequence[str],
    progress: Progress, limits: Limits,
) -> tuple[artifacts.Stored, bool]:  # fmt: skip
    """The stored build of the source as it is now, and whether it was there already."""
    for _ in range(5):
        try:
            copies = workdir.snapshot(source)
            key = _content_key(source, kernel, copies, arguments)
            if stored := artifacts.load(work, key):
                return stored, True
            with workdir.locked(work.path, timeout=limits.seconds):
                if stored := artifacts.load(work, key):
                    return stored, True
                progress.step(f"building {source.name} for {kernel.release}")
                compile_it = _compile_dkms if source.is_dkms else _compile
                return compile_it(
                    source, kernel, work, copies, key, arguments, progress, limits
                ), False
        except SourceChangedError:
            continue
    raise UsageError(
        f"{source.path} keeps changing while it is read",
        hint="stop what writes there, and try again",
    )


def _equipped(source: ModuleSource, kernel: Kernel, progress: Progress) -> Kernel:
    """The kernel with the toolchain that the source wants."""
    packages = project.build_packages(source)
    if packages == project.Packages():
        return kernel
    from lkm.kernels import additions

    return additions.with_packages(kernel, packages, progress=progress)


def _content_key(
    source: ModuleSource, kernel: Kernel, copies: Sequence[Copy], arguments: Sequence[str]
) -> str:
    parts = [
        VERSION, os.fsencode(source.path).hex(), kernel.identity, kernel.toolchain.identity, list(arguments),
        [(os.fsencode(copy.name).hex(), copy.mode, copy.digest) for copy in copies],
    ]  # fmt: skip
    if source.is_dkms:
        parts.append("dkms")
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _compile(
    source: ModuleSource, kernel: Kernel, work: WorkDir, copies: tuple[Copy, ...], key: str,
    arguments: Sequence[str], progress: Progress, limits: Limits,
) -> artifacts.Stored:  # fmt: skip
    from lkm.kbuild import results  # an unchanged source needs nothing of it

    _check_kernel(kernel)
    place = make.place(source, kernel, work.tree)
    state = workdir.sync(work, copies)
    outcome = make.run(place, arguments, work.log, progress, limits)
    found = diagnostics.parse(outcome.lines, place.locate)
    try:
        if outcome.returncode or outcome.stopped:
            raise failure(place, outcome, found, work)
        files, manifest = results.collect(place, work, results.order(place, work))
        manifest["diagnostics"] = [diagnostic.to_dict() for diagnostic in found]
        return artifacts.save(work, key, files, manifest)
    finally:
        if not outcome.stopped and _forget_complaining(place, outcome):
            workdir.settle(work, state)


def _compile_dkms(
    source: ModuleSource, kernel: Kernel, work: WorkDir, copies: tuple[Copy, ...], key: str,
    arguments: Sequence[str], progress: Progress, limits: Limits,
) -> artifacts.Stored:  # fmt: skip
    from lkm.kbuild import results
    from lkm.kbuild.dkms import building, reading

    _check_kernel(kernel)
    work.state.unlink(missing_ok=True)  # dkms starts from a fresh copy: patches apply once
    workdir.sync(work, copies)
    building.keep_times(work.tree, copies)
    conf = reading.read(source, kernel, work)
    if conf.excluded:
        raise ExcludedError(source.name, kernel.release, conf.excluded)
    place = building.place(source, kernel, work, conf)
    command = building.argv(place, work, conf, arguments, limits)
    outcome = make.run_command(place, command, work.log, progress, limits)
    found = reading.complaints(source, conf) + diagnostics.parse(outcome.lines, place.locate)
    if outcome.returncode or outcome.stopped:
        raise failure(place, outcome, found, work, building.failed_step(place, outcome))
    if error := building.missing(place, conf, outcome, work.log):
        raise error
    files, manifest = results.collect(place, work, building.modules(conf))
    manifest["diagnostics"] = [diagnostic.to_dict() for diagnostic in found]
    return artifacts.save(work, key, files, manifest)


def _forget_complaining(place: Place, outcome: Outcome) -> bool:
    """Remove what was made with a warning, so that the next make warns again.

    False where that cannot be told; the next build then starts from an empty tree.
    """
    targets = diagnostics.complaining(outcome.lines)
    for target in targets or ():
        path = place.tree / os.path.relpath(PurePath(place.inside, target), place.inside)
        if path.parent.resolve().is_relative_to(place.tree.resolve()):
            path.unlink(missing_ok=True)
    return targets is not None


def _check_kernel(kernel: Kernel) -> None:
    if not (kernel.build_dir_on_host / "Makefile").is_file():
        raise HostError(
            f"{kernel.release} has no build tree at {kernel.build_dir_on_host}",
            hint=f"lkm kernel fetch {kernel.release}",
        )
    if not (kernel.build_dir_on_host / "Module.symvers").is_file():
        # Without it modpost lets every unresolved symbol pass (scripts/Makefile.modpost).
        raise HostError(
            f"{kernel.release} has no Module.symvers in {kernel.build_dir_on_host}",
            hint=f"make -C {kernel.build_dir_on_host} modules",
        )


def _check_writable(base: Path) -> None:
    """Refuse before make has run for nothing."""
    existing = next(path for path in (base, *base.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _not_writable(existing)


def _not_writable(path: Path) -> HostError:
    return HostError(
        f"cannot write to {path}", hint="lkm build -o DIR, with DIR a directory of yours"
    )


@contextmanager
def _disk_errors(source: ModuleSource) -> Iterator[None]:
    """Say what a failed write to the store or to the user's directory means."""
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename2 or error.filename or cache_dir()))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            inside = path.is_relative_to(cache_dir())
            raise (_no_store(error) if inside else _not_writable(path)) from error
        raise HostError(f"{source.name} cannot be built: {error}") from error


def _no_store(error: OSError) -> HostError:
    return HostError(
        f"cannot use lkm's store: {error}", hint="export LKM_CACHE_DIR=DIR, a directory of yours"
    )


def clean(source: ModuleSource) -> tuple[Path, ...]:
    """Remove what lkm made of a source, for every kernel: DIR/build, the private copies, stored builds.

    Only a `build` that lkm marked as its own is touched. Returns the directories that were removed.
    Waits for builds of that source that are under way.
    """
    removed = []
    with _disk_errors(source):
        kept = workdir.of_source(source)
        if kept.is_dir():
            for path in sorted(kept.iterdir()):
                with workdir.locked(path, timeout=chosen().seconds):
                    workdir.remove_tree(path)
            kept.rmdir()
            removed.append(kept)
        published = source.directory / "build"
        if is_ours(published):
            workdir.remove_tree(published)
            removed.append(published)
    return tuple(removed)
