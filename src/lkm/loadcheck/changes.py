"""When the loader changed: the release that brought each change, and the stable ones that took it over.

Sources: the history of kernel/module/ (kernel/module.c before 5.18), and Debian's changelogs, which name every
patch of a stable release.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "CONTENTS_CHECKED",
    "ELF_MESSAGES",
    "EMPTY_NAMES_CHECKED",
    "EXPORTS_IN_ONE_TABLE",
    "MODULE_NAMESPACES",
    "NAME_FIRST",
    "PERCPU_RELOCATED",
    "SPLIT_CHECKS",
    "STRUCT_CHECKED",
    "SYMBOL_INDEX_CHECKED",
    "TABLES_TYPED",
    "TAINTING_SYMBOL_NAMED",
    "Change",
    "Version",
]

Version = tuple[int, ...]
"""An upstream version: (6, 12, 117)."""


class Change(NamedTuple):
    """A change that came with the release `since`, and to older series with the `backports`."""

    since: tuple[int, int]
    backports: tuple[tuple[int, int, int], ...] = ()

    def is_in(self, version: Version) -> bool:
        """Whether a kernel of that version has it."""
        for backport in self.backports:
            if version[:2] == backport[:2]:
                return version >= backport
        return version >= self.since


TAINTING_SYMBOL_NAMED = Change((5, 13))
"""The message about proprietary and GPL-only symbols names the symbol."""

ELF_MESSAGES = Change((5, 16))
"""Each check of the ELF file has a message of its own (7fd982f394c4)."""

EMPTY_NAMES_CHECKED = Change((5, 19), ((5, 18, 3),))
"""An empty table of section names is refused; before, the byte before it is read, wherever that is."""

STRUCT_CHECKED = Change((6, 4))
"""The section of struct module is checked (c7ee8aebf6c0), and .modinfo need not be SHF_ALLOC."""

NAME_FIRST = Change((6, 4))
"""A name that is taken is found before anything is allocated."""

SPLIT_CHECKS = Change((6, 14), ((6, 12, 117),))
"""The checks of the ELF file are many functions, in another order."""

CONTENTS_CHECKED = Change((6, 14))
"""What is in the table of symbols' names is checked; CRCs may be in sections of their own."""

PERCPU_RELOCATED = Change((6, 15))
"""Relocations of .data..percpu are applied; before, its SHF_ALLOC was taken away first."""

MODULE_NAMESPACES = Change((6, 16))
"""A namespace `module:...` is for the modules that it names, and cannot be imported."""

TABLES_TYPED = Change((7, 0), ((6, 12, 117),))
"""The tables of names must be SHT_STRTAB."""

SYMBOL_INDEX_CHECKED = Change((7, 0), ((6, 1, 168), (6, 12, 80)))
"""The section of a symbol must be one that there is."""

EXPORTS_IN_ONE_TABLE = Change((7, 0))
"""GPL-only symbols are in __ksymtab, too."""
