"""Kernels and toolchain roots in a store that are as small as they can be."""

from __future__ import annotations

import json
from pathlib import Path

from lkm.kernels import catalog, record, toolchain

__all__ = ["entry", "put", "put_toolchain"]


def entry(release: str, suite: str, cc: str = "gcc-14") -> record.Record:
    return record.Record(
        release=release,
        arch="x86_64",
        suite=suite,
        flavour=catalog.flavour_of(release) or "",
        version=f"{release.partition('+')[0]}-1",
        image=f"boot/vmlinuz-{release}",
        config=f"boot/config-{release}",
        system_map=None,
        modules_dir=f"lib/modules/{release}",
        build_dir=f"/usr/src/linux-headers-{release}",
        binds=((f"usr/src/linux-headers-{release}", f"/usr/src/linux-headers-{release}"),),
        toolchain_suite=suite,
        cc=cc,
        identity="00ff",
        disk_bytes=1234,
        packages=(),
    )


def put(made: record.Record) -> Path:
    home: Path = record.kernels_dir() / made.release
    for directory in ("boot", made.modules_dir, f"usr/src/linux-headers-{made.release}"):
        (home / directory).mkdir(parents=True)
    for file in (made.image, made.config):
        (home / file).touch()
    record.write(home, made)
    put_toolchain(made.toolchain_suite, made.cc)
    return home


def put_toolchain(suite: str, cc: str) -> Path:
    home = toolchain.roots_dir() / f"{suite}-{cc}"
    (home / "root/usr").mkdir(parents=True, exist_ok=True)
    (home / "meta.json").write_text(
        json.dumps({"schema": toolchain.SCHEMA, "identity": "abcd", "bytes": 5678})
    )
    return home
