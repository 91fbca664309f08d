"""What the Kbuild file of a source names to be built, read where a build of it has failed."""

from __future__ import annotations

import re

from lkm.source import KBUILD_FILES, ModuleSource

__all__ = ["hint", "misnamed"]

_GOALS = r"(?m)^[ \t]*obj-(?:m|\$[({][^)}\n]*[)}])[ \t]*[:+?]*=(?P<words>.*)$"


def hint(source: ModuleSource) -> str | None:
    """What to write where obj-m has a name that Kbuild makes no module of; None where all are right."""
    for name in KBUILD_FILES:
        path = source.directory / name
        if source.file is None and path.is_file():
            for word in misnamed(path.read_text("utf-8", "replace")):
                stem = word.removesuffix(".c").removesuffix(".ko")
                return f"obj-m := {stem}.o in {path}, not {word}: Kbuild takes the object's name"
            return None  # it reads the first of them only
    return None


def misnamed(text: str) -> tuple[str, ...]:
    """The words of obj-m that are neither an object, nor a directory, nor make's own.

    Kbuild asks make for a module's parts by the name of its object (scripts/Makefile.lib, 5.10 to 7.3).
    """
    joined = re.sub(r"\\\n", " ", text)
    lines = (match["words"].partition("#")[0] for match in re.finditer(_GOALS, joined))
    words = (word for line in lines if "$" not in line for word in line.split())
    return tuple(word for word in words if not word.endswith((".o", ".a", "/")))
