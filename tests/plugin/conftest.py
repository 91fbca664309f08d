"""What the plugin's tests share: tests of a user in a directory of their own, run by a pytest inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lkm import paths

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "data" / "modules"
CACHE = os.fspath(paths.cache_dir())
HEADER = f"""
import os, signal, pytest, lkm
from pathlib import Path
MODULES = Path({str(MODULES)!r})
EXAMPLES = Path({str(ROOT / "examples")!r})
"""

Written = Callable[..., Path]


@pytest.fixture
def written(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes a user's test file, whose names have MODULES and EXAMPLES among them."""
    # pytester has a HOME of its own, without kernels.
    monkeypatch.setenv("LKM_CACHE_DIR", CACHE)

    def write(text: str, name: str = "test_it") -> Path:
        return pytester.makepyfile(**{name: HEADER + text})

    return write
