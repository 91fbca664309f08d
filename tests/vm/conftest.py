"""What the tests on real kernels share: lkm as a process, and machines that are put down again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Lkm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short private directory for sockets (sun_path holds 107 bytes), with no machine in it."""
    with tempfile.TemporaryDirectory(prefix="lkm-", dir="/tmp") as path:
        monkeypatch.setenv("LKM_RUNTIME_DIR", path)
        yield Path(path)


@pytest.fixture
def lkm(runtime_dir: Path) -> Iterator[Lkm]:
    """Runs `lkm WORDS...` as a process of its own; every machine that it put up is down at the end."""

    def run(
        *words: str,
        timeout: float = 120,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lkm", *words],
            timeout=timeout,
            env={**os.environ, **(env or {})},
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    yield run
    assert run("down", "--all").returncode == 0


@pytest.fixture
def machine(lkm: Lkm) -> str:
    """The name of a machine that is up."""
    done = lkm("up", "m1")
    assert done.returncode == 0, done.stderr
    return "m1"
