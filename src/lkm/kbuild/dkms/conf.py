"""What a dkms.conf means for one kernel, from the values that reading it gave (pure).

The rules are those of read_conf, read_conf_strict and do_build of dkms 3.2.2, and of its man page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["BuiltModule", "Conf", "Values", "faults", "interpret", "values"]

_PATH_PART = r"[\w.+~:@%-]+"


@dataclass(frozen=True)
class BuiltModule:
    """A module that dkms expects of the build: `path` below the source, `file` what it is installed as."""

    path: str
    file: str


@dataclass(frozen=True)
class Conf:
    """What dkms would do for one kernel.

    `excluded` is the reason why it would not build for it, in one line; None where it would. `make` is the
    command as bash gets it, None where the file has none that fits: then dkms has one of its own. `needs` are
    the DKMS packages that have to be installed before (BUILD_DEPENDS). `said` is what the file, which is a
    shell script, wrote to stderr.
    """

    name: str
    version: str
    modules: tuple[BuiltModule, ...] = ()
    make: str | None = None
    patches: tuple[str, ...] = ()
    pre_build: str | None = None
    needs: tuple[str, ...] = ()
    excluded: str | None = None
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Values:
    """The records of `read.sh`: arrays as dictionaries, because bash's may have holes."""

    arrays: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    words: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def array(self, name: str) -> Mapping[int, str]:
        """An array directive; empty where it is not set."""
        return self.arrays.get(name, {})

    def scalar(self, name: str) -> str:
        """A directive, or the first of an array; empty where it is not set."""
        return self.array(name).get(0, "")

    def matches(self, kind: str, index: int = 0) -> bool:
        """Whether bash found that a regular expression matches the kernel."""
        return index in self.array(f"match-{kind}")


def values(output: bytes) -> Values | None:
    """The records that `read.sh` printed; None where they are not whole or not of that form."""
    fields = output.decode("utf-8", "replace").split("\0")
    if len(fields) % 3 != 1 or fields[-1] or fields[:3] != ["started", "", ""]:
        return None
    arrays: dict[str, dict[int, str]] = {}
    chosen: set[str] = set()
    records = list(zip(fields[3:-1:3], fields[4:-1:3], fields[5:-1:3], strict=True))
    if not records or records[-1][0] != "end":
        return None
    for kind, key, value in records[:-1]:
        if not re.fullmatch(r"[0-9]{1,6}", key):
            return None
        if kind == "set":
            chosen.add(value)
        else:
            arrays.setdefault(kind, {})[int(key)] = value
    return Values(arrays, {"set": frozenset(chosen)})


def faults(found: Values) -> list[str]:
    """Why dkms would call the file a bad one ("Bad conf file", exit 8); empty for a good one."""
    return [*_nameless(found), *_misnamed(found), *_duplicates(found)]


def _nameless(found: Values) -> Iterator[str]:
    for name in ("PACKAGE_NAME", "PACKAGE_VERSION"):
        value = found.scalar(name)
        if not value:
            yield f"it has no {name}"
        elif name == "PACKAGE_NAME" and not re.fullmatch(_PATH_PART, value):
            yield f"its {name} {value!r} cannot be a directory's name"


def _misnamed(found: Values) -> Iterator[str]:
    locations = found.array("DEST_MODULE_LOCATION")
    for index, (_, built, dest) in enumerate(_modules(found)):
        if not built:
            yield f"it has no BUILT_MODULE_NAME[{index}]"
        for directive, name in (("BUILT_MODULE_NAME", built), ("DEST_MODULE_NAME", dest)):
            if name.endswith((".o", ".ko")):
                yield f"its {directive}[{index}] {name!r} ends in .o or .ko"
            elif name and not re.fullmatch(_PATH_PART, name):
                yield f"its {directive}[{index}] {name!r} cannot be a file's name"
        location = locations.get(index, "")
        if not location:
            yield f"it has no DEST_MODULE_LOCATION[{index}]"
        elif not location.startswith(("/kernel", "/updates", "/extra")):
            yield (
                f"its DEST_MODULE_LOCATION[{index}] {location!r} does not begin with /kernel, /updates"
                " or /extra"
            )


def _duplicates(found: Values) -> Iterator[str]:
    modules = _modules(found)
    for what, names in (
        ("BUILT_MODULE_NAME", [location + built for location, built, _ in modules]),
        ("DEST_MODULE_NAME", [dest for *_, dest in modules]),
    ):
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            yield f"it has {what} {name!r} twice"


def _modules(found: Values) -> list[tuple[str, str, str]]:
    """(location with a slash, built name, installed name) of each module, defaults filled in."""
    built, dest = found.array("BUILT_MODULE_NAME"), found.array("DEST_MODULE_NAME")
    locations = found.array("BUILT_MODULE_LOCATION")
    places = found.array("DEST_MODULE_LOCATION")
    count = max(
        (index + 1 for each in (built, dest, locations, places) for index in each), default=0
    )
    modules = []
    for index in range(count):
        name = built.get(index, "") or (found.scalar("PACKAGE_NAME") if count == 1 else "")
        location = locations.get(index, "")
        if location and not location.endswith("/"):
            location += "/"
        modules.append((location, name, dest.get(index, "") or name))
    return modules


def interpret(found: Values, release: str, arch: str) -> Conf:
    """What dkms would do for the kernel `release`; `faults` has found none."""
    version = found.scalar("PACKAGE_VERSION")
    return Conf(
        name=found.scalar("PACKAGE_NAME"),
        # Upstream sources often have a placeholder, like #MODULE_VERSION#, that a package's build fills in.
        version=version if re.fullmatch(_PATH_PART, version) else "0",
        modules=tuple(
            BuiltModule(f"{location}{built}.ko", f"{dest}.ko")
            for location, built, dest in _modules(found)
        ),
        make=_make(found),
        patches=tuple(_patches(found)),
        pre_build=found.scalar("PRE_BUILD") or None,
        needs=tuple(need for need in found.array("BUILD_DEPENDS").values() if need),
        excluded=next(_exclusions(found, release, arch), None),
        said=tuple(found.scalar("said").splitlines()),
    )


def _make(found: Values) -> str | None:
    """The last MAKE whose MAKE_MATCH matches; else the first, if it is for every kernel."""
    commands, matches = found.array("MAKE"), found.array("MAKE_MATCH")
    chosen = None if matches.get(0) else commands.get(0)
    for index in range(len(commands)):
        if commands.get(index) and matches.get(index) and found.matches("make", index):
            chosen = commands[index]
    return chosen or None


def _patches(found: Values) -> Iterator[str]:
    patches, matches = found.array("PATCH"), found.array("PATCH_MATCH")
    for index in range(len(patches)):  # as dkms counts: what comes after a hole is lost
        if patches.get(index) and (not matches.get(index) or found.matches("patch", index)):
            yield patches[index]


def _exclusions(found: Values, release: str, arch: str) -> Iterator[str]:
    pattern = found.scalar("BUILD_EXCLUSIVE_KERNEL")
    if pattern and not found.matches("kernel"):
        yield f"BUILD_EXCLUSIVE_KERNEL={pattern!r} does not match {release}"
    least = found.scalar("BUILD_EXCLUSIVE_KERNEL_MIN")
    if least and _padded(release) < _padded(least):
        yield f"BUILD_EXCLUSIVE_KERNEL_MIN={least}: {release} is older"
    directive = "BUILD_EXCLUSIVE_KERNEL_MAX"
    most = found.scalar(directive)
    if not most:
        directive = "OBSOLETE_BY"
        most = found.scalar(directive)
    if most and _padded(release) > _padded(most):
        yield f"{directive}={most}: {release} is newer"
    pattern = found.scalar("BUILD_EXCLUSIVE_ARCH")
    if pattern and not found.matches("arch"):
        yield f"BUILD_EXCLUSIVE_ARCH={pattern!r} does not match {arch}"
    yield from _lacking(found.scalar("BUILD_EXCLUSIVE_CONFIG").split(), found.words.get("set", ()))
    if found.scalar("build_exclude"):
        yield "its dkms.conf sets build_exclude"


def _lacking(wanted: Iterable[str], present: Iterable[str]) -> Iterator[str]:
    present = set(present)
    for option in wanted:
        unwanted = option.startswith("!")
        if unwanted == (option in present):
            name = option.removeprefix("!")
            yield f"BUILD_EXCLUSIVE_CONFIG={option}: {name} is {'set' if unwanted else 'not set'}"


def _padded(version: str) -> str:
    """A version that compares as text: its numbers have three digits at least (VER of dkms)."""
    return re.sub(r"\d+", lambda number: number[0].zfill(3), version).replace(" ", "")
