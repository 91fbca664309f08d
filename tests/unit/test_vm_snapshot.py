"""Which frozen machines stay on the disk when a new one is made."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lkm.arch import X86_64
from lkm.vm import qemu, snapshot

CONFIG = qemu.Config(X86_64)
HOUR = 3600.0


def frozen(store: Path, name: str, idle: float, release: str = "6.12.1") -> Path:
    """A snapshot's directory that was restored `idle` seconds ago."""
    home = store / name
    home.mkdir()
    meta = home / "meta.json"
    meta.write_text(json.dumps({"release": release, "config": CONFIG.to_dict()}))
    os.utime(meta, (time.time() - idle,) * 2)
    return home


def left(store: Path) -> list[str]:
    kernel: Any = SimpleNamespace(release="6.12.1")
    snapshot._drop_outdated(store / "fresh", kernel, CONFIG)
    return sorted(path.name for path in store.iterdir())


def test_what_another_lkm_has_in_use_stays(tmp_path: Path) -> None:
    for name, idle in (("fresh", 0.0), ("now", 5.0), ("today", 20 * HOUR), ("old", 60 * HOUR)):
        frozen(tmp_path, name, idle)
    frozen(tmp_path, "other", 900 * HOUR, release="5.10.1")
    (tmp_path / "damaged").mkdir()
    assert left(tmp_path) == ["fresh", "now", "other", "today"]


def test_outdated_ones_do_not_pile_up(tmp_path: Path) -> None:
    frozen(tmp_path, "fresh", 0.0)
    for number in range(1, 7):
        frozen(tmp_path, f"{number}-hours", number * 2 * HOUR)
    assert left(tmp_path) == ["1-hours", "2-hours", "3-hours", "fresh"]


def test_a_restore_notes_its_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = frozen(tmp_path, "old", 60 * HOUR)

    def no_start(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(snapshot, "start", no_start)
    with pytest.raises(RuntimeError):
        snapshot.restore(snapshot.Snapshot(home, CONFIG, "6.12.1"))
    assert left(tmp_path) == ["old"]
