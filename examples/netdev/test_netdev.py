"""The tests of netdev.ko: pytest examples/netdev"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lkm

Insmod = Callable[..., lkm.Module]

MIRROR = "/sys/class/net/mirror0"


@pytest.fixture(autouse=True)
def netdev(vm: lkm.VM, insmod: Insmod) -> lkm.Module:
    """The interface, up, with a network of its own and nobody but the tests to send on it."""
    loaded = insmod()
    vm.path("/proc/sys/net/ipv6/conf/mirror0/disable_ipv6").write_text("1")
    vm.run(["ip", "addr", "add", "10.0.0.1/24", "dev", "mirror0"]).check()
    vm.run(["ip", "link", "set", "mirror0", "up"]).check()
    return loaded


def ping(vm: lkm.VM, count: int, *options: str) -> lkm.Completed:
    return vm.run(["ping", "-c", str(count), "-A", "-W", "1", *options, "10.0.0.2"])


def statistics(vm: lkm.VM, *names: str) -> list[int]:
    return [int(vm.path(f"{MIRROR}/statistics/{name}").read_text()) for name in names]


def sockets_of_port_7(vm: lkm.VM) -> list[str]:
    """Their states, 0A for one that listens; see Documentation/networking/proc_net_tcp.rst."""
    tables = (vm.path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return [row[3] for row in rows if row[1].endswith(":0007")]


def test_each_echo_request_is_answered(vm: lkm.VM) -> None:
    assert "3 packets received, 0% packet loss" in ping(vm, 3).check().text


def test_counts_requests_and_answers(vm: lkm.VM) -> None:
    ping(vm, 5, "-s", "100").check()
    # Two frames each: 14 bytes of Ethernet, 20 of IPv4, 8 of ICMP, and what was asked for.
    assert statistics(vm, "tx_packets", "rx_packets") == [10, 10]
    assert statistics(vm, "tx_bytes", "rx_bytes") == [1420, 1420]


def test_a_lost_frame_is_counted(vm: lkm.VM, netdev: lkm.Module) -> None:
    netdev.params["drop_every"].write(2)
    assert ping(vm, 2).returncode == 1
    # The first request comes back, its answer is lost; then the answer to nothing: the second request.
    assert statistics(vm, "tx_packets", "tx_dropped") == [2, 2]
    netdev.params["drop_every"].write(0)
    assert ping(vm, 2).returncode == 0


def test_tcp_talks_to_itself(vm: lkm.VM) -> None:
    with vm.start(["nc", "-l", "-p", "7"]) as server:
        while "0A" not in sockets_of_port_7(vm):
            assert server.poll() is None
        data = bytes(range(256)) * 200
        assert vm.run(["nc", "10.0.0.2", "7"], stdin=data).returncode == 0
        assert server.stdout.read() == data


def test_large_frames_go_through_whole(vm: lkm.VM) -> None:
    vm.run(["ip", "link", "set", "mirror0", "mtu", "9000"]).check()
    ping(vm, 1, "-s", "8972").check()
    assert statistics(vm, "tx_packets", "tx_bytes") == [2, 2 * (9000 + 14)]


@pytest.mark.parametrize("mtu", [67, 9001])
def test_an_mtu_out_of_range_is_refused(vm: lkm.VM, mtu: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        vm.path(f"{MIRROR}/mtu").write_text(str(mtu))
    assert vm.path(f"{MIRROR}/mtu").read_text() == "1500\n"


def test_its_address_can_be_set_while_it_is_down(vm: lkm.VM) -> None:
    for change in (("down",), ("address", "02:00:00:00:00:07"), ("up",)):
        vm.run(["ip", "link", "set", "mirror0", *change]).check()
    assert vm.path(f"{MIRROR}/address").read_text() == "02:00:00:00:00:07\n"
    ping(vm, 1).check()


def test_sends_nothing_while_it_is_down(vm: lkm.VM) -> None:
    vm.run(["ip", "link", "set", "mirror0", "down"]).check()
    assert b"unreachable" in ping(vm, 1).stderr
    assert statistics(vm, "tx_packets") == [0]


def test_can_be_unloaded_while_it_is_up(vm: lkm.VM, netdev: lkm.Module) -> None:
    ping(vm, 1).check()
    netdev.rmmod()
    assert not vm.path(MIRROR).exists()
    assert not vm.problems
