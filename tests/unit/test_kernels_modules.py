from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.indexed_kernel import indexed

from lkm.errors import UsageError
from lkm.kernels import modules
from lkm.kernels.kernel import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return indexed(tmp_path)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ([], []),
        (["failover"], ["failover.ko.xz"]),
        (["virtio-net"], ["failover.ko.xz", "net-failover.ko.xz", "virtio_net.ko.xz"]),
        (["virtio_net", "failover"], ["failover.ko.xz", "net-failover.ko.xz", "virtio_net.ko.xz"]),
        (["odd_name", "virtio_net"],
         ["failover.ko.xz", "odd-name.ko", "net-failover.ko.xz", "virtio_net.ko.xz"]),
        (["virtio", "virtio_console"], []),
    ],
)  # fmt: skip
def test_dependencies_come_first_and_builtins_not_at_all(
    kernel: Kernel, names: list[str], order: list[str]
) -> None:
    assert [path.name for path in modules.load_order(kernel, names)] == order


@pytest.mark.parametrize(
    ("order", "soft"),
    [
        (["kernel/fs/odd-name.ko"], ["failover.ko.xz", "net-failover.ko.xz"]),
        (["kernel/net/core/failover.ko.xz"], []),
        (["kernel/drivers/net/virtio_net.ko.xz"], ["failover.ko.xz"]),
    ],
)
def test_soft_dependencies_are_names_or_aliases_and_those_that_there_are_not_are_left_out(
    kernel: Kernel, order: list[str], soft: list[str]
) -> None:
    assert kernel.modules_dir
    (kernel.modules_dir / "modules.softdep").write_text(
        "# comment\nsoftdep odd_name pre: crypt-x platform:gone virtio-console post: virtio_net\n"
        "softdep virtio_net post: odd_name\nsoftdep virtio-net pre: failover\n"
    )
    (kernel.modules_dir / "modules.alias").write_text(
        "alias crypt-x gone\nalias crypt-x net_failover\n"
    )
    assert [path.name for path in modules.soft_needs(kernel, map(Path, order))] == soft


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("odd-name", "odd_name"),
        ("net-pf-16-proto-4", "failover"),
        ("net_pf_16_proto_4", "failover"),
        ("char-major-10-130", "net_failover"),
        ("virtio", None),
        ("nothing", None),
    ],
)
def test_modprobe_takes_names_and_aliases_which_are_globs(
    kernel: Kernel, name: str, found: str | None
) -> None:
    assert kernel.modules_dir
    (kernel.modules_dir / "modules.alias").write_text(
        "# Aliases\nalias net-pf-16-proto-4 failover\nalias char-major-10-* net_failover\n"
    )
    assert modules.answering(kernel, [name]).get(name) == found
    if found:
        assert modules.find(kernel, name) == modules.find(kernel, found)


def test_paths_are_those_of_this_computer(kernel: Kernel) -> None:
    assert kernel.modules_dir is not None
    assert modules.load_order(kernel, ["failover"]) == (
        kernel.modules_dir / "kernel/net/core/failover.ko.xz",
    )


def test_a_module_that_the_kernel_lacks_is_named_with_the_nearest(kernel: Kernel) -> None:
    with pytest.raises(UsageError) as caught:
        modules.load_order(kernel, ["virtio_nat"])
    assert "'virtio_nat'" in caught.value.summary
    assert "virtio_net" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/net/core/net-failover.ko.xz", "net_failover"),
        ("virtio.ko", "virtio"),
        ("kernel/a.b/x-y_z.ko.zst", "x_y_z"),
    ],
)
def test_a_modules_name_is_that_of_its_file(path: str, name: str) -> None:
    assert modules.module_name(path) == name


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"flavour": "cloud"}, "6.12-generic"),
        ({"provider": "tree", "modules_dir": None}, "modules_install INSTALL_MOD_PATH="),
        ({"flavour": "generic"}, None),
    ],
)
def test_the_hint_says_where_more_modules_are(
    kernel: Kernel, changes: dict[str, str | None], hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        modules.load_order(replace(kernel, **changes), ["nothing_like_it"])  # type: ignore[arg-type]
    assert (hint in (caught.value.hint or "")) if hint else caught.value.hint is None
