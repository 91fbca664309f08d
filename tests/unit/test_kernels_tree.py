from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm.errors import HostError, UsageError
from lkm.kernels import host, store, toolchain, tree

CONFIG = "CONFIG_X86_64=y\nCONFIG_GCC_VERSION=120200\n"
FILES = {
    ".config": CONFIG,
    "include/config/kernel.release": "5.17.0\n",
    "include/generated/autoconf.h": "",
    "scripts/mod/modpost": "\0GLIBC_2.34\0",
    "Module.symvers": "",
    "arch/x86/boot/bzImage": "image",
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LKM_CONFIG", str(tmp_path / "lkm.toml"))
    for name in ("bookworm-gcc-12", "trixie-gcc-12"):
        home = toolchain.roots_dir() / name
        (home / "root/usr").mkdir(parents=True)
        (home / "meta.json").write_text(json.dumps({"schema": 1, "identity": name, "bytes": 1}))
    return toolchain.roots_dir() / "bookworm-gcc-12/root"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    fill(path)
    return path


def fill(path: Path) -> None:
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)


def test_a_built_tree_is_a_kernel(built: Path, root: Path) -> None:
    kernel = store.get(f"tree:{built}")
    assert kernel.release == "5.17.0"
    assert kernel.provider == "tree"
    assert kernel.image == built / "arch/x86/boot/bzImage"
    assert kernel.config == built / ".config"
    assert kernel.build_dir == str(built)
    assert kernel.build_dir_on_host == built
    assert kernel.toolchain.root == root
    assert kernel.toolchain.cc == "gcc-12"
    assert kernel.modules_dir is None
    assert kernel.system_map is None


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (".config", "defconfig"),
        ("include/config/kernel.release", "modules_prepare"),
        ("include/generated/autoconf.h", "modules_prepare"),
        ("scripts/mod/modpost", "modules_prepare"),
        ("Module.symvers", "modules"),
        ("arch/x86/boot/bzImage", "bzImage"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    built: Path, name: str, target: str
) -> None:
    (built / name).unlink()
    with pytest.raises(UsageError) as caught:
        tree.kernel(built)
    assert f"{name} is missing" in caught.value.summary
    assert caught.value.hint == f"make -C {built} {target}"


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        tree.kernel(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("CONFIG_X86_64=y\nCONFIG_GCC_VERSION=0\nCONFIG_CC_IS_CLANG=y\n", "not built with gcc"),
        ("CONFIG_X86_64=y\n", "not built with gcc"),
        ("CONFIG_X86_64=y\nCONFIG_GCC_VERSION=40800\n", "no Debian suite has gcc 4"),
        ("CONFIG_ARM64=y\nCONFIG_GCC_VERSION=120200\n", "architecture"),
    ],
)
def test_a_tree_that_no_toolchain_fits_is_refused(built: Path, config: str, said: str) -> None:
    (built / ".config").write_text(config)
    with pytest.raises(UsageError, match=said):
        tree.kernel(built)


def test_programs_linked_with_a_newer_libc_get_a_newer_suite(built: Path) -> None:
    (built / "scripts/mod/modpost").write_bytes(b"\0GLIBC_2.2.5\0GLIBC_2.38\0")
    assert tree.kernel(built).toolchain.suite == "trixie"


def test_the_identity_changes_with_every_new_build(built: Path) -> None:
    before = tree.kernel(built).identity
    assert tree.kernel(built).identity == before
    for name in (
        ".config",
        "Module.symvers",
        "arch/x86/boot/bzImage",
        "include/generated/autoconf.h",
    ):
        os.utime(built / name, ns=(1, 1))
        after = tree.kernel(built).identity
        assert after != before, name
        before = after


def test_an_output_directory_brings_its_sources(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (built / "source").symlink_to(source)
    assert tree.kernel(built).binds == ((source, str(source)), (built, str(built)))


def test_installed_modules_in_the_tree_are_found(built: Path) -> None:
    modules = built / "lib/modules/5.17.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    assert tree.kernel(built).modules_dir == modules


def test_a_tree_below_a_directory_of_the_root_gets_a_mount_point(root: Path) -> None:
    toolchain.add_mount_points(root, ["/usr/src/linux-5.17", "/home/me/linux"])
    assert (root / "usr/src/linux-5.17").is_dir()
    assert not (root / "home").exists()


def installed_host(base: Path) -> None:
    fill(base / "usr/src/linux-headers-6.1.0-50-amd64")
    kbuild = base / "usr/lib/linux-kbuild-6.1/scripts"
    kbuild.mkdir(parents=True)
    (base / "usr/src/linux-headers-6.1.0-50-amd64/tools").symlink_to(kbuild)
    (base / "boot").mkdir()
    (base / "boot/vmlinuz-6.1.0-50-amd64").touch()
    modules = base / "lib/modules/6.1.0-50-amd64"
    modules.mkdir(parents=True)
    (modules / "build").symlink_to(base / "usr/src/linux-headers-6.1.0-50-amd64")


def test_the_running_kernel_is_a_kernel(tmp_path: Path) -> None:
    installed_host(tmp_path)
    kernel = host.kernel(root=tmp_path, release="6.1.0-50-amd64")
    assert kernel.provider == "host"
    assert kernel.image == tmp_path / "boot/vmlinuz-6.1.0-50-amd64"
    assert [inside for _, inside in kernel.binds] == [
        f"{tmp_path}/usr/src",
        f"{tmp_path}/usr/lib/linux-kbuild-6.1",
    ]
    assert kernel.modules_dir == tmp_path / "lib/modules/6.1.0-50-amd64"


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("lib/modules/6.1.0-50-amd64/build", "linux-headers-6.1.0-50-amd64"),
        ("boot/vmlinuz-6.1.0-50-amd64", "linux-image-6.1.0-50-amd64"),
    ],
)
def test_what_the_host_lacks_is_named_with_its_package(
    tmp_path: Path, missing: str, package: str
) -> None:
    installed_host(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(HostError) as caught:
        host.kernel(root=tmp_path, release="6.1.0-50-amd64")
    assert f"sudo apt-get install {package}" in (caught.value.hint or "")
