"""How Debian packages its kernels: what differs between 5.10 and 7.3, in one place.

| | 5.10, 6.1 | 6.12 | 7.x |
|---|---|---|---|
| image and modules | linux-image | linux-image | linux-binary, linux-modules, linux-base |
| image, configuration | /boot | /boot | the modules' directory |
| modules | /lib/modules, .ko | /usr/lib/modules, .ko.xz | /usr/lib/modules, .ko.xz |
| headers of all flavours | linux-headers-VERSION-common, for rt -common-rt | -common | -common |
| compiler, by the headers | gcc-10, gcc-12 | gcc-14-for-host | gcc-N-for-host |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lkm.errors import HostError

__all__ = ["compiler", "config", "has_modules", "image", "is_own", "shared_directory", "system_map"]

_OWN = re.compile(r"linux-(?:image|binary|modules|headers|kbuild|base)-\d")
"""The packages that are the kernel; what else they depend on is for a computer that boots it."""

_MODULES = re.compile(r"linux-(?:image|modules|base)-\d")
"""Those that depmod needs: the modules, and the lists of what is built in."""

_COMPILER = re.compile(r"(gcc-\d+)(?:-for-host)?")
"""Debian's headers depend on the compiler that built the kernel: by name, since 6.13 through -for-host."""

_SHARED = (
    (re.compile(r"linux-headers-\d\S*-common(?:-rt)?"), "usr/src/"),
    (re.compile(r"linux-kbuild-\d\S*"), "usr/lib/"),
)
"""Packages that all flavours of a version have, and above the directory that is all that lkm keeps of each."""


def is_own(package: str) -> bool:
    """Whether a package of the closure is part of the kernel."""
    return bool(_OWN.match(package))


def has_modules(package: str) -> bool:
    """Whether a package has what the index of the modules is made of."""
    return bool(_MODULES.match(package))


def compiler(packages: Iterable[str]) -> str | None:
    """The compiler that built a kernel, `gcc-14`, by what its headers depend on."""
    found = (_COMPILER.fullmatch(package) for package in packages)
    return next((each[1] for each in found if each), None)


def shared_directory(package: str) -> str | None:
    """The directory of a package that other flavours have, too, relative to the kernel's; None for others."""
    return next((f"{above}{package}" for name, above in _SHARED if name.fullmatch(package)), None)


def image(home: Path, release: str) -> str:
    """Where the image of an unpacked kernel is, relative to `home`. Raises HostError where it is not."""
    return _the_one(home, f"boot/vmlinuz-{release}", f"lib/modules/{release}/vmlinuz")


def config(home: Path, release: str) -> str:
    """Where the configuration of an unpacked kernel is. Raises HostError where it is not."""
    return _the_one(home, f"boot/config-{release}", f"lib/modules/{release}/config")


def system_map(home: Path, release: str) -> str | None:
    """Where its System.map is, or None."""
    places = (f"boot/System.map-{release}", f"lib/modules/{release}/System.map")
    return next((path for path in places if (home / path).is_file()), None)


def _the_one(home: Path, *candidates: str) -> str:
    for candidate in candidates:
        if (home / candidate).is_file():
            return candidate
    raise HostError(f"the packages of {home.name} have none of {', '.join(candidates)}")
