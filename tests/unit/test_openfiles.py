"""Which processes have a device open, by this computer's own /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm import openfiles
from lkm.openfiles import OpenFile


def test_a_process_that_has_a_device_open_is_found_with_its_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = os.getpid()
    comm = Path("/proc/self/comm").read_text().strip()
    with open("/dev/full"):
        assert not [each for each in openfiles._devices(Path("/proc")) if each.pid == mine]
        monkeypatch.setattr(openfiles, "_SYSTEMS_OWN", set[int]())
        found = [each for each in openfiles._devices(Path("/proc")) if each.pid == mine]
    assert OpenFile(mine, comm, "/dev/full", "mem") in found


@pytest.mark.parametrize(
    ("path", "driver", "is_it"),
    [
        ("/dev/my-drv0", "misc", True),
        ("/dev/x", "my_drv", True),
        ("/dev/x", "misc", False),
        ("/my_drv/x", "misc", False),
    ],
)
def test_a_device_is_a_modules_by_its_name_or_its_drivers(
    path: str, driver: str, is_it: bool
) -> None:
    assert OpenFile(1, "cat", path, driver).is_of("my_drv") is is_it
