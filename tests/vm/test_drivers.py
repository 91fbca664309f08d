"""Drivers that Debian ships as source, from their packages, through the interfaces that their users use."""

from __future__ import annotations

import select
import shutil
from pathlib import Path

import pytest

import lkm

pytestmark = pytest.mark.vm

FRAME = bytes(range(256)) * 12
"""64 x 48 pixels of GREY."""
ADD_EVENTS, SET_EVENTS = 0x5E01, 0x5E03
"""_IO('^', 1) and _IO('^', 3) of vpoll.h."""


@pytest.fixture(params=["6.12", "6.1"])
def kernel(request: pytest.FixtureRequest) -> lkm.Kernel:
    return lkm.kernel(request.param)


@pytest.fixture(params=["6.12-generic", "6.1-generic"])
def generic(request: pytest.FixtureRequest) -> lkm.Kernel:
    """The cloud flavour has no video."""
    return lkm.kernel(request.param)


def test_vpoll_makes_the_events_that_it_is_told_to(kernel: lkm.Kernel) -> None:
    module = lkm.build(lkm.package("vpoll-dkms"), kernel)["vpoll"]
    with kernel.machine() as vm, vm.insmod(module):
        with vm.open("/dev/vpoll", "r+b", buffering=0) as file:
            assert file.poll(select.POLLIN | select.POLLOUT) == 0
            file.ioctl(ADD_EVENTS, select.POLLIN)
            assert file.poll(select.POLLIN | select.POLLOUT) == select.POLLIN
            file.ioctl(SET_EVENTS, select.POLLOUT)
            assert file.poll(select.POLLIN | select.POLLOUT) == select.POLLOUT
            with pytest.raises(OSError, match="/dev/vpoll"):
                file.ioctl(0x5E09)
        assert vm.problems == []


def test_frames_go_through_v4l2loopback(generic: lkm.Kernel) -> None:
    module = lkm.build(lkm.package("v4l2loopback-dkms"), generic)["v4l2loopback"]
    control = ["v4l2-ctl", "--device", "/dev/video7"]
    with generic.machine(packages=["v4l-utils"]) as vm:
        with vm.insmod(module, devices=1, video_nr=[7], card_label=["lkm"]) as loaded:
            assert "Card type        : lkm" in vm.run([*control, "--all"]).check().text
            form = "width=64,height=48,pixelformat=GREY"
            vm.run([*control, "--set-fmt-video-out", form]).check()
            with (
                vm.open("/dev/video7", "wb", buffering=0) as camera,
                vm.open("/dev/video7", "rb", buffering=0) as viewer,
            ):
                for frame in (FRAME, FRAME[::-1]):
                    assert camera.write(frame) == len(frame)
                    assert viewer.read(len(frame)) == frame
                with pytest.raises(lkm.UnloadError, match="EAGAIN"):
                    loaded.rmmod()
        assert vm.problems == []


def test_jool_is_set_up_by_its_own_tool(kernel: lkm.Kernel, tmp_path: Path) -> None:
    source = tmp_path / "jool"
    shutil.copytree(lkm.package("jool-dkms") / "src", source)
    # Its dkms.conf runs make once for each of these.
    (source / "Kbuild").write_text("obj-m += mod/common/ mod/nat64/\n")
    objects = lkm.build(source, kernel)
    with kernel.machine(packages=["jool-tools"]) as vm:
        with vm.insmod(objects["jool"]) as loaded:
            assert {"jool", "jool_common", "nf_defrag_ipv6"} <= {m.name for m in vm.modules()}
            pool = ["--netfilter", "--pool6", "64:ff9b::/96"]
            vm.run(["jool", "instance", "add", "one", *pool]).check()
            assert "Created instance 'one'." in loaded.log
            again = vm.run(["jool", "instance", "add", "one", *pool])
            assert again.returncode
            assert b"already has a Jool instance" in again.stderr
            vm.run(["jool", "-i", "one", "pool4", "add", "--tcp", "192.0.2.1", "80"]).check()
            entry = ["--tcp", "2001:db8::1#80", "192.0.2.1#80"]
            vm.run(["jool", "-i", "one", "bib", "add", *entry]).check()
            shown = vm.run(["jool", "-i", "one", "bib", "display", "--numeric"]).check().text
            assert "2001:db8::1#80" in shown
            vm.run(["jool", "instance", "remove", "one"]).check()
        assert vm.problems == []


def test_rapiddisk_is_a_disk(kernel: lkm.Kernel) -> None:
    module = lkm.build(lkm.package("rapiddisk-dkms"), kernel)["rapiddisk"]
    with kernel.machine() as vm, vm.insmod(module):
        vm.path("/sys/kernel/rapiddisk/mgmt").write_text("rapiddisk attach 0 8388608\n")
        assert vm.path("/dev/rd0").is_block_device()
        with vm.open("/dev/rd0", "r+b", buffering=0) as disk:
            assert disk.seek(0, 2) == 8388608
            assert disk.pwrite(FRAME, 4096) == len(FRAME)
            assert disk.pread(len(FRAME), 4096) == FRAME
        vm.path("/sys/kernel/rapiddisk/mgmt").write_text("rapiddisk detach 0\n")
        assert not vm.path("/dev/rd0").exists()
        assert vm.problems == []
