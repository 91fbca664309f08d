"""What all tests share: those of the debug kernel run where that kernel is; to build it takes too long."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lkm.errors import LkmError
from lkm.kernels import store

MARKER = "debug_kernel"
# A busy computer is no bug: nothing fails on time.
settings.register_profile("lkm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lkm")

EXAMPLES = Path(__file__).parents[1] / "examples"
"""Its tests are as a user would have them, without a marker of ours."""


@cache
def is_here() -> bool:
    try:
        return bool(store.get("debug", fetch=False))
    except LkmError:
        return False


def pytest_report_header() -> list[str]:
    if is_here():
        return []
    return [f"the debug kernel is not in the store: tests marked {MARKER} are deselected"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(EXAMPLES):
            item.add_marker("vm")
    out = [item for item in items if item.get_closest_marker(MARKER) and not is_here()]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
