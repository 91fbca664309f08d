"""One contract, two machines: a guest, and the computer that lkm runs on (which is a guest here, too)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.vm import host_guest
from tests.vm.contract import CONTRACT

from lkm.vm.fresh import Fresh
from lkm.vm.process import run

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the modules that the contract loads."""
    directory = tmp_path_factory.mktemp("modules")
    for name, image in host_guest.images(host_guest.kernel()).items():
        (directory / f"{name}.ko").write_bytes(image)
    return directory


@pytest.mark.parametrize("promise", CONTRACT)
def test_a_guest_keeps(promise: str, modules: Path) -> None:
    with Fresh(host_guest.kernel()) as fresh, fresh.machine() as machine:
        CONTRACT[promise](machine, modules)


@pytest.mark.parametrize("promise", CONTRACT)
def test_this_computer_keeps(promise: str) -> None:
    with host_guest.restored() as guest:
        words = ["python3", host_guest.CONTRACT, promise, host_guest.MODULES]
        done = run(guest, words, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"kept: {promise}\n"
