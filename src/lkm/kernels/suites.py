"""The Debian suites that lkm takes kernels and compilers from: one row a suite."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STABLE", "SUITES", "Suite", "base_suite", "suite_named", "suite_with"]


@dataclass(frozen=True)
class Suite:
    """One suite.

    `base` is the suite that it only adds to (backports to stable, experimental to sid). `series` is set
    where the suite will keep it for life. `compilers` are the versions of gcc that the base has, and
    `glibc` the minor version of its libc 2.x.
    """

    name: str
    base: str | None = None
    series: str | None = None
    compilers: tuple[int, ...] = ()
    glibc: int = 0


STABLE = "trixie"
"""Debian stable; its cloud flavour is lkm's default kernel."""

SUITES: tuple[Suite, ...] = (
    Suite("bullseye", series="5.10", compilers=(9, 10), glibc=31),
    Suite("bookworm", series="6.1", compilers=(11, 12), glibc=36),
    Suite("bookworm-backports", base="bookworm"),
    Suite("trixie", series="6.12", compilers=(12, 13, 14), glibc=41),
    Suite("trixie-backports", base="trixie"),
    Suite("forky", compilers=(12, 13, 14, 15, 16), glibc=43),
    Suite("sid", compilers=(11, 12, 13, 14, 15, 16), glibc=43),
    Suite("experimental", base="sid"),
)


def suite_named(name: str) -> Suite | None:
    """The row of a suite, or None."""
    return next((suite for suite in SUITES if suite.name == name), None)


def base_suite(name: str) -> str:
    """The suite whose libc and compilers `name` uses: itself, unless it only adds to another."""
    suite = suite_named(name)
    return suite.base if suite and suite.base else name


def suite_with(compiler: int, glibc: int = 0) -> Suite | None:
    """The oldest suite that has gcc-`compiler` and a libc of at least 2.`glibc`."""
    fitting = (s for s in SUITES if compiler in s.compilers and s.glibc >= glibc)
    return next(fitting, None)
