"""Function definitions of a kernel tree, and what a function may return: by the kernel's style, with no parser.

A function begins where a line is `{` alone and ends where a line is `}` alone. What it may return is followed
through local variables and through the functions whose results it passes on, a few calls deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

__all__ = ["Function", "Tree"]

_PLACES = """
    mm lib kernel block crypto fs net/core net/ipv4 net/netlink net/netfilter net/ethernet net/sched include
    drivers/base drivers/char drivers/input drivers/tty drivers/pci drivers/rtc drivers/i2c drivers/usb/core
    drivers/media/v4l2-core drivers/media/common drivers/video/fbdev/core drivers/gpio drivers/clk
    drivers/regulator sound/core arch/x86/mm arch/x86/lib arch/x86/kernel arch/x86/include
"""
_LOOSE = ("net/*.c",)
_LEFT_OUT = re.compile(
    r"fs/[a-z0-9]+/|lib/(tests|crypto|zstd|raid)|mm/(slab|slob|nommu)\.c|srcutiny|logic_iomem|usercopy_32|/selftest"
)
_NEEDED = re.compile(r"fs/(proc|sysfs|debugfs|kernfs)/")
_ATTRIBUTE = re.compile(
    r"__(printf|attribute__|alloc_size\w*|acquires|releases|cond_\w+|must_hold|no_\w+)$"
)
_MACRO = re.compile(r"k[vmz]{1,2}alloc(_objs?|_flex|_node_track_caller\w*)?$")
"""Allocators that are no functions in some series."""
_PASSED_ON = {
    "ERR_CAST",
    "likely",
    "unlikely",
    "alloc_hooks",
    "page_rmappable_folio",
    "make_alloc_exact",
}
"""What returns a failure that it is given."""
_DEPTH = 7


@dataclass(frozen=True)
class Function:
    """One definition: `returns` is its type, `params` its parameters, each as written."""

    name: str
    file: str
    returns: str
    params: tuple[str, ...]
    body: str = field(repr=False)
    is_static: bool

    @property
    def prototype(self) -> str:
        """As C has it, in one line."""
        space = "" if self.returns.endswith("*") else " "
        return f"{self.returns}{space}{self.name}({', '.join(self.params)})"


class Tree:
    """The part of a kernel tree in which exported functions are."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cached_property
    def functions(self) -> dict[str, list[Function]]:
        """Every definition by its name, the likeliest for a caller elsewhere first."""
        found: dict[str, list[Function]] = {}
        for path in self._files():
            name = str(path.relative_to(self._root))
            for function in _functions(path.read_text("utf-8", "replace"), name):
                found.setdefault(function.name, []).append(function)
        for each in found.values():
            each.sort(key=_unlikely)
        return found

    def _files(self) -> Iterator[Path]:
        for place in _PLACES.split():
            for path in sorted((self._root / place).rglob("*.[ch]")):
                name = str(path.relative_to(self._root))
                if _NEEDED.match(name) or not _LEFT_OUT.search(name):
                    yield path
        for pattern in _LOOSE:
            yield from sorted(self._root.glob(pattern))

    def exported(self, name: str) -> Function | None:
        """The definition that modules get."""
        return next((f for f in self.functions.get(name, ()) if not f.is_static), None)

    def called(self, name: str, file: str) -> list[Function]:
        """What a call in `file` may mean. `kmalloc` may be a macro around `kmalloc_noprof`."""
        for each in (name, f"{name}_noprof"):
            if found := self.functions.get(each):
                near = [f for f in found if f.file == file and file.endswith(".c")]
                far = [f for f in found if not f.is_static]
                return near or far or [f for f in found if f.file.endswith(".h")]
        return []

    def outcomes(self, function: Function) -> frozenset[str]:
        """What it may return, as C has it, of `NULL`, `ERR_PTR(-EBUSY)`, `-EBUSY`, `0`, `false`."""
        return frozenset(_Flow(self, ()).of(function))


def _unlikely(function: Function) -> tuple[bool, bool, bool]:
    stub = len(function.body) < 60
    return function.is_static, function.file.startswith("include"), stub


def _functions(text: str, file: str) -> Iterator[Function]:
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    for match in re.finditer(r"^\{$(.*?)^\}", text, re.M | re.S):
        before = text[max(0, match.start() - 1500) : match.start()]
        head = re.split(r"[;}]\s*\n|\n\s*\n|^#.*\n", before, flags=re.M)[-1]
        if made := _parsed(" ".join(re.sub(r"//.*", "", head).split()), file, match[1]):
            yield made


def _parsed(head: str, file: str, body: str) -> Function | None:
    for match in re.finditer(r"(\w+) ?\(", head):
        if _ATTRIBUTE.match(match[1]):
            continue
        kind = re.sub(r"\b(static|inline|extern|asmlinkage|noinline|noinstr|notrace|__\w+)\b(\([^)]*\))?",
                      "", head[: match.start()])  # fmt: skip
        params = _split(_inside(head, match.end()))
        returns = " ".join(kind.split()).replace("* ", "*")
        return Function(match[1], file, returns, params, body, "static" in head[: match.start()])
    return None


def _inside(text: str, start: int) -> str:
    """What is between a parenthesis and its partner; `start` is behind the first."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if not depth:
            return text[start:at]
    return text[start:]


def _split(text: str) -> tuple[str, ...]:
    """At the commas outside parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    cleaned = tuple(" ".join(part.split()) for part in parts)
    return () if cleaned in (("",), ("void",)) else cleaned


@dataclass(frozen=True)
class _Flow:
    """Follows values back from a `return`. `above` are the functions on the way here."""

    tree: Tree
    above: tuple[str, ...]

    def of(self, function: Function) -> set[str]:
        if function.name in self.above or len(self.above) > _DEPTH:
            return set()
        inner = _Flow(self.tree, (*self.above, function.name))
        found: set[str] = set()
        for match in re.finditer(r"\breturn\s+([^;]+?)(?:;|,\s*&)", function.body):
            found |= inner.value(match[1], function, frozenset())
        return found

    def value(self, text: str, function: Function, seen: frozenset[str]) -> set[str]:
        found: set[str] = set()
        for part in re.split(r"\s\?\s|\s\?:\s|\?:|\s:\s|\|\|", text):
            found |= self._one(part.strip().strip("()").strip(), part.strip(), function, seen)
        return found

    def _one(self, bare: str, text: str, function: Function, seen: frozenset[str]) -> set[str]:
        if bare in ("NULL", "0", "false", "true"):
            return {bare}
        if re.fullmatch(r"-E[A-Z0-9]+", bare):
            return {bare}
        if re.fullmatch(r"\w+", bare):
            return self._variable(bare, function, seen)
        text = re.sub(r"^\((?:const )?(?:struct )?\w+ \*+\)\s*", "", text)
        call = re.match(r"\(?\s*(\w+)\((.*)", text, re.S)
        return self._call(call[1], _inside(call[2], 0), function, seen) if call else set()

    def _call(self, name: str, inside: str, function: Function, seen: frozenset[str]) -> set[str]:
        if name in ("ERR_PTR", "IOMEM_ERR_PTR"):
            return {f"ERR_PTR({each})" for each in self.value(inside, function, seen)}
        if name in _PASSED_ON:
            return self.value(inside, function, seen)
        if name == "dev_err_probe":
            return self.value(_split(inside)[1], function, seen)
        if name in ("PTR_ERR", "PTR_ERR_OR_ZERO", "xa_err"):
            found = self.value(inside, function, seen)
            return {each.removeprefix("ERR_PTR(").removesuffix(")") for each in found}
        if called := self.tree.called(name, function.file):
            return set().union(*map(self.of, called))
        return {"NULL"} if _MACRO.match(name) else set()

    def _variable(self, name: str, function: Function, seen: frozenset[str]) -> set[str]:
        if name in seen:
            return set()
        found: set[str] = set()
        for match in re.finditer(rf"(?<![\w.>]){name}\s*=(?!=)\s*([^;]+);", function.body):
            found |= self.value(_first(match[1]), function, seen | {name})
        for match in re.finditer(rf"\({name}\s*=\s*(\w+\([^;]*?\))\)", function.body):
            found |= self.value(match[1], function, seen | {name})
        return found


def _first(text: str) -> str:
    """An initial value, up to the comma that begins the next declaration or the end of a condition."""
    depth = 0
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0 or (letter == "," and not depth):
            return text[:at]
    return text
