"""meta.json: what the store remembers of a kernel, with paths relative to the kernel's directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lkm import paths
from lkm.arch import arch_named
from lkm.errors import LkmError
from lkm.kernels.kernel import Kernel, Toolchain

__all__ = ["META", "Record", "kernels_dir", "read", "write"]

META = "meta.json"
SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One kernel as it lies in the store; everything but where the store is.

    `suite` and `version` are those of the package that it is, or (provider `debug`) that it was built from.
    """

    release: str
    arch: str
    suite: str
    flavour: str
    version: str
    image: str
    config: str
    system_map: str | None
    modules_dir: str
    build_dir: str
    binds: tuple[tuple[str, str], ...]
    toolchain_suite: str
    cc: str
    identity: str
    disk_bytes: int
    packages: tuple[str, ...]
    provider: str = "debian"

    def kernel(self, home: Path, toolchain: Toolchain) -> Kernel:
        """The kernel, given the directory that holds it."""
        return Kernel(
            release=self.release,
            arch=arch_named(self.arch),
            provider=self.provider,
            image=home / self.image,
            build_dir=self.build_dir,
            binds=tuple((home / relative, inside) for relative, inside in self.binds),
            config=home / self.config,
            toolchain=toolchain,
            identity=self.identity,
            system_map=home / self.system_map if self.system_map else None,
            modules_dir=home / self.modules_dir,
            suite=self.suite,
            flavour=self.flavour,
            version=self.version,
            disk_bytes=self.disk_bytes,
        )


def kernels_dir() -> Path:
    """Where the store's kernels are, one directory a release; it may not exist yet."""
    return paths.cache_dir() / "kernels"


def write(home: Path, record: Record) -> None:
    """Writes meta.json into `home`."""
    (home / META).write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1) + "\n")


def read(home: Path) -> Record | str:
    """The record in `home`, or one line that says why it cannot be believed. Never raises."""
    try:
        fields = json.loads((home / META).read_text())
        if not isinstance(fields, dict) or fields.pop("schema", None) != SCHEMA:
            return f"{META} is not of schema {SCHEMA}"
        record = _checked(fields)
    except FileNotFoundError:
        return f"{META} is missing"
    except (OSError, ValueError, TypeError, KeyError, LkmError) as error:
        return f"{META} is damaged: {error}"
    if record.release != home.name:
        return f"{META} is that of {record.release}"
    for path in (record.image, record.config, record.modules_dir):
        if not (home / path).exists():
            return f"{path} is missing"
    return record


def _checked(fields: dict[str, Any]) -> Record:
    fields["binds"] = tuple((str(host), str(inside)) for host, inside in fields["binds"])
    fields["packages"] = tuple(map(str, fields["packages"]))
    record = Record(**fields)
    arch_named(record.arch)
    if not isinstance(record.disk_bytes, int):
        raise TypeError(f"disk_bytes is {record.disk_bytes!r}")
    texts = (record.release, record.image, record.config, record.modules_dir, record.build_dir)
    if not all(isinstance(text, str) and text for text in texts):
        raise TypeError(f"one of {texts} is not a path")
    return record
