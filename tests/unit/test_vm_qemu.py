"""QEMU's command line, the initramfs and the wire, without a QEMU."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.arch import X86_64
from lkm.end import End
from lkm.errors import UsageError
from lkm.vm import initramfs, qemu
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.config_check import boot_module_names
from lkm.vm.link import Link
from lkm.vm.qmp import Qmp, QmpClosed, QmpError
from lkm.vm.watch import Watch
from lkm.vm.wire import HEADER, Op, pack

WINDOW = Path("/w")
ENDS = {"qmp": 3, "watch": 4, "session0": 5}


def soon() -> float:
    return time.monotonic() + 5


def line_of(config: qemu.Config, **launch: Any) -> str:
    share = launch.pop("share", False)
    return " ".join(qemu.argv(config, qemu.Launch(Path("/r,1"), share, ENDS, WINDOW, **launch)))


def test_a_restored_machine_has_a_private_memory_and_waits_for_its_state() -> None:
    line = line_of(qemu.Config(X86_64))
    assert "mem-path=/r,,1,share=off" in line
    assert line.endswith("-incoming defer -S")
    assert "-kernel" not in line
    assert "-icount shift=2,sleep=off" in line
    assert "-chardev socket,id=session0,fd=5 " in line
    assert "-chardev null,id=session3 " in line


def test_a_booted_machine_writes_to_the_file_itself() -> None:
    line = line_of(qemu.Config(X86_64), share=True, image=Path("/k"), initramfs=Path("/i"))
    assert "share=on" in line
    assert "-kernel /k -initrd /i -append console=ttyS0" in line
    assert "-incoming" not in line


def test_the_window_is_shared_in_every_machine() -> None:
    line = line_of(qemu.Config(X86_64))
    assert f"id=window,size={qemu.WINDOW_SIZE},share=on,mem-path=/w " in line


def test_a_machine_that_stays_listens_and_its_clock_is_real() -> None:
    line = line_of(qemu.Config(X86_64, clock=qemu.Clock.REAL), listening=True)
    assert "socket,id=qmp,fd=3,server=on,wait=off" in line
    assert "-icount" not in line


def test_kvm_has_the_hosts_processor_and_no_icount() -> None:
    line = line_of(qemu.Config(X86_64, accel=qemu.Accel.KVM))
    assert "-accel kvm -cpu host" in line
    assert "-icount" not in line


def test_no_machine_has_a_network_a_disk_or_the_users_configuration() -> None:
    words = qemu.argv(qemu.Config(X86_64), qemu.Launch(Path("/r"), False, ENDS, WINDOW))
    assert {"-nodefaults", "-no-user-config", "-sandbox"} <= set(words)
    assert not {"-netdev", "-nic", "-net", "-drive", "-blockdev", "-virtfs"} & set(words)
    assert words[words.index("-sandbox") + 1].startswith("on,")


@pytest.mark.parametrize("memory", [0, 63, 65537])
def test_a_size_that_no_machine_has_is_refused(memory: int) -> None:
    with pytest.raises(UsageError, match=f"{memory} MiB"):
        qemu.Config(X86_64, memory_mib=memory)


def entries_of(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return
        yield name, mode, data[start : start + size]
        at = (start + size + 3) & ~3


def test_the_initramfs_can_be_read_back() -> None:
    entries = initramfs.contents(agent=b"A" * 5, busybox=b"B", boot_modules=[("virtio", b"V")])
    found = {name: (mode, data) for name, mode, data in entries_of(initramfs.archive(entries))}
    assert found["init"] == (0o100755, b"AAAAA")
    assert found["lkm/boot/00-virtio.ko"] == (0o100644, b"V")
    assert found["bin/sh"] == (0o120777, b"busybox")
    assert next(iter(found)) == "bin"
    assert initramfs.archive(entries) == initramfs.archive(entries)


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_a_frame_may_come_in_pieces(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    data = pack(Op.DATA, b"hello", 7)
    peer.send(data[:3])
    with pytest.raises(ChannelTimeout):
        channel.receive(time.monotonic() + 0.01)
    peer.send(data[3:] + pack(Op.END, b"", 7))
    assert [frame.op for frame in channel.answers(7, soon())] == [Op.DATA, Op.END]


def test_answers_to_what_was_given_up_are_dropped(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.send(pack(Op.DATA, b"old", 1) + pack(Op.END, b"", 1) + pack(Op.END, b"new", 2))
    (frame,) = channel.answers(2, soon())
    assert frame.payload == b"new"


def test_a_length_that_no_frame_has_ends_the_session(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.send(HEADER.pack(1 << 30, Op.DATA, 0, 1))
    with pytest.raises(ChannelClosed):
        channel.receive(soon())


def test_an_end_of_stream_is_told(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.close()
    with pytest.raises(ChannelClosed):
        channel.receive(soon())


def test_garbage_before_the_token_is_skipped(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.send(b"\xff" * 5000 + b"tok" + b"TOKEN" + pack(Op.END, b"", 3))
    channel.skip_past(b"TOKEN", soon())
    assert channel.receive(soon()).id == 3


class FakeQemu:
    """The other end of a QMP session: answers each command, says what a test tells it to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard: list[str] = []
        self.errors: set[str] = set()
        sock.send(b'{"QMP": {}}\n')
        threading.Thread(target=self._serve, daemon=True).start()

    def say(self, **message: Any) -> None:
        with contextlib.suppress(OSError):
            self.sock.send(json.dumps(message).encode() + b"\n")

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self.sock.makefile("rb") as commands:
            for raw in commands:
                self._answer(json.loads(raw))

    def _answer(self, command: dict[str, Any]) -> None:
        name = command["execute"]
        self.heard.append(name)
        if name in self.errors:
            self.say(id=command["id"], error={"desc": "no"})
        else:
            self.say(id=command["id"], **{"return": "" if name == "ringbuf-read" else {}})


@pytest.fixture
def fake() -> Iterator[tuple[Qmp, FakeQemu]]:
    ours, theirs = socket.socketpair()
    peer = FakeQemu(theirs)
    qmp = Qmp(ours)
    yield qmp, peer
    qmp.close()
    theirs.close()


def test_commands_are_pipelined_and_answered_by_id(fake: tuple[Qmp, FakeQemu]) -> None:
    qmp, peer = fake
    peer.errors = {"bad"}
    first, bad = qmp.send("first"), qmp.send("bad")
    with pytest.raises(QmpError, match="no"):
        qmp.result(bad, deadline=soon())
    assert qmp.result(first, deadline=soon()) == {}
    assert peer.heard == ["qmp_capabilities", "first", "bad"]


def test_an_event_is_kept_until_it_is_asked_for(fake: tuple[Qmp, FakeQemu]) -> None:
    qmp, peer = fake
    peer.say(event="SHUTDOWN", data={})
    assert qmp.wait_event("SHUTDOWN", deadline=soon())["event"] == "SHUTDOWN"
    assert qmp.event("STOP") is None
    with pytest.raises(TimeoutError):
        qmp.wait_event("STOP", deadline=time.monotonic() + 0.01)


def test_a_monitor_that_went_is_told(fake: tuple[Qmp, FakeQemu]) -> None:
    qmp, peer = fake
    peer.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises((QmpClosed, TimeoutError)):
        qmp.call("anything", deadline=soon())


def test_a_link_tells_an_answer_from_a_halt_and_from_silence(fake: tuple[Qmp, FakeQemu]) -> None:
    qmp, peer = fake
    ours, theirs = socket.socketpair()
    link = Link(Channel(ours), number=0, watch=Watch(qmp, None))
    asked = link.begin(Op.PING, deadline=soon(), stage="ping")
    theirs.send(pack(Op.LOG, b"log", asked) + HEADER.pack(2, Op.END, 8, asked) + b"ok")
    reply = link.finish(asked, deadline=soon(), stage="ping")
    assert (reply.end, reply.status, reply.value, reply.log) == (End.DONE, 8, b"ok", b"log")
    peer.say(event="SHUTDOWN", data={"guest": True, "reason": "guest-reset"})
    asked = link.begin(Op.PING, deadline=soon(), stage="ping")
    reply = link.finish(asked, deadline=soon(), stage="ping")
    assert reply.end is End.PANIC
    assert link.dead
    link.close()
    theirs.close()


def test_a_kernel_that_cannot_be_a_guest_is_told_what_it_lacks() -> None:
    good = dict.fromkeys(
        (
            "MODULES",
            "BLK_DEV_INITRD",
            "DEVTMPFS",
            "PROC_FS",
            "SYSFS",
            "PRINTK",
            "TTY",
            "PCI",
            "TMPFS",
        ),
        "y",
    )
    good |= {"SERIAL_8250_CONSOLE": "y", "VIRTIO_PCI": "m", "VIRTIO_CONSOLE": "y"}
    assert boot_module_names("6.1", good) == ("virtio_pci",)
    with pytest.raises(UsageError, match="CONFIG_DEVTMPFS, CONFIG_VIRTIO_CONSOLE"):
        boot_module_names("6.1", {**good, "DEVTMPFS": "n", "VIRTIO_CONSOLE": "n"})
