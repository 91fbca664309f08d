"""What compiler, assembler, modpost, objtool and make say, read out of a build's output (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Diagnostic", "complaining", "parse", "tail"]


@dataclass(frozen=True)
class Diagnostic:
    """One complaint. `severity` is `error` or `warning`; `lines` is all of it, word for word.

    `file` is absolute where it is known, as are the paths in `lines`. `line` and `column` count from 1.
    """

    file: str | None
    line: int | None
    column: int | None
    severity: str
    text: str
    lines: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Diagnostic:
        """The inverse of `to_dict`."""
        return cls(**{**data, "lines": tuple(data["lines"])})


# Text, not compiled: a build that does nothing imports this module and matches nothing.
# A configure script quotes what its trials said as comments: `//   test.c:4:16: error: `
_FILE = r"(?P<file>(?!//\s)[^\s:][^:\n]*)"
_FORMS = (
    # gcc, clang, as
    _FILE
    + r":(?P<line>\d+):(?:(?P<column>\d+):)? (?P<severity>fatal error|[Ee]rror|[Ww]arning|note):"
    r" (?P<text>.*)",
    # make itself
    _FILE + r":(?P<line>\d+): \*\*\* (?P<text>.*)",
    r"make(?:\[\d+\])?: \*\*\* (?P<text>No rule .*)",
    # modpost
    r"(?P<severity>ERROR|WARNING): (?P<text>modpost: .*)",
    # objtool and ld
    r"(?P<file>[^\s:]+\.k?o): (?P<severity>warning|error): (?P<text>.*)",
    # a tool without a place
    r"(?P<text>[\w.+/-]+: (?P<severity>fatal error|error|warning): .*)",
)
_CONTEXT = r"In file included from |\s+from \S|[^\s:][^:]*: (?:In |At )"
_CONTINUED = r"\s|compilation terminated\.|cc1\w*: (?:all|some) warnings"
_STEP = r"  [A-Z][A-Z0-9_]*(?: \[M\])? +(?P<target>\S+)$"
_PATH = r"((?:In file included from |\s+from )?)([^\s:][^:]*?)(?=:\d|: In |: At )"
_NOISE = r"make(?:\[\d+\])?: (?:Entering|Leaving) directory"


def parse(lines: Iterable[str], locate: Callable[[str], str] = str) -> tuple[Diagnostic, ...]:
    """The errors and warnings in a build's output, in its order, each once.

    `locate` gives the path to show for a path as the build printed it. Notes and source excerpts belong
    to the complaint before them.
    """
    found: dict[tuple[object, ...], Diagnostic] = {}
    for head, block in _blocks(lines):
        diagnostic = _diagnostic(head, block, locate)
        found.setdefault(
            (diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.text), diagnostic
        )
    return tuple(found.values())


def _blocks(lines: Iterable[str]) -> Iterable[tuple[re.Match[str], list[str]]]:
    head: re.Match[str] | None = None
    block: list[str] = []
    context: list[str] = []
    for line in lines:
        match = _match(line)
        if match and _severity(match) == "note" and head:
            block += [*context, line]
            context = []
        elif match and _severity(match) != "note":
            if head:
                yield head, block
            head, block, context = match, [*context, line], []
        elif re.match(_CONTEXT, line):
            context.append(line)
        elif head and re.match(_CONTINUED, line) and not re.match(_STEP, line):
            block.append(line)
        else:
            if head:
                yield head, block
            head, context = None, []
    if head:
        yield head, block


def _match(line: str) -> re.Match[str] | None:
    return next((match for form in _FORMS if (match := re.match(form, line))), None)


def _severity(match: re.Match[str]) -> str:
    said = str(match.groupdict().get("severity") or "error").lower()
    return "error" if said == "fatal error" else said


def _diagnostic(head: re.Match[str], block: list[str], locate: Callable[[str], str]) -> Diagnostic:
    parts = head.groupdict()
    return Diagnostic(
        file=locate(parts["file"]) if parts.get("file") else None,
        line=int(parts["line"]) if parts.get("line") else None,
        column=int(parts["column"]) if parts.get("column") else None,
        severity=_severity(head),
        text=parts["text"],
        lines=tuple(_relocated(line, locate) for line in block),
    )


def _relocated(line: str, locate: Callable[[str], str]) -> str:
    match = re.match(_PATH, line)
    return match[1] + locate(match[2]) + line[match.end() :] if match else line


def tail(lines: Iterable[str], count: int = 15) -> tuple[str, ...]:
    """The last lines of an output, without make's own noise: evidence where nothing was recognised."""
    return tuple(line for line in lines if line.strip() and not re.match(_NOISE, line))[-count:]


def complaining(lines: Iterable[str]) -> tuple[str, ...] | None:
    """The targets whose making printed a complaint; None where the output does not tell (`V=1`).

    Kbuild prints `  CC [M]  TARGET`, and with make's --output-sync what its making said follows.
    """
    target: str | None = None
    found: dict[str, None] = {}
    for line in lines:
        if step := re.match(_STEP, line):
            target = step["target"]
        elif _match(line):
            if target is None:
                return None
            found[target] = None
    return tuple(found)
