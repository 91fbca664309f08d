from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm.errors import HostError, UsageError
from lkm.kernels import host, store, toolchain, tree

CONFIG = "CONFIG_X86_64=y\nCONFIG_MODULES=y\nCONFIG_GCC_VERSION=120200\n"
FILES = {
    "Makefile": "",
    ".config": CONFIG,
    "include/config/auto.conf": CONFIG,
    "include/config/kernel.release": "5.17.0\n",
    "include/generated/autoconf.h": "",
    "scripts/basic/fixdep": "",
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
        (home / "meta.json").write_text(
            json.dumps({"schema": toolchain.SCHEMA, "identity": name, "bytes": 1})
        )
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


def configure(path: Path, config: str) -> None:
    """As it is after a build with this configuration."""
    (path / ".config").write_text(config)
    (path / "include/config/auto.conf").write_text(config)


@pytest.mark.parametrize(
    "name",
    ["include/config/auto.conf", "include/config/kernel.release", "include/generated/autoconf.h",
     "scripts/basic/fixdep", "scripts/mod/modpost", "Module.symvers", "arch/x86/boot/bzImage"],
)  # fmt: skip
def test_a_file_that_a_build_makes_and_is_missing_is_named(built: Path, name: str) -> None:
    (built / name).unlink()
    with pytest.raises(UsageError) as caught:
        tree.kernel(built)
    assert caught.value.summary == f"{built} is not a built kernel tree: it lacks {name}"
    assert caught.value.hint == f"make -C {built} bzImage modules"


def test_all_that_is_missing_is_named_at_once(built: Path) -> None:
    for name in ("Module.symvers", "arch/x86/boot/bzImage"):
        (built / name).unlink()
    with pytest.raises(UsageError, match=r"it lacks Module\.symvers, arch/x86/boot/bzImage\n"):
        tree.kernel(built)


@pytest.mark.parametrize("option", ["OBJTOOL", "STACK_VALIDATION"])
def test_objtool_is_needed_where_the_kernel_was_built_with_it(built: Path, option: str) -> None:
    configure(built, f"{CONFIG}CONFIG_{option}=y\n")
    with pytest.raises(UsageError, match="it lacks tools/objtool/objtool"):
        tree.kernel(built)
    (built / "tools/objtool").mkdir(parents=True)
    (built / "tools/objtool/objtool").touch()
    assert tree.kernel(built).release == "5.17.0"


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        tree.kernel(tmp_path / "nothing")


def test_a_directory_that_is_no_kernel_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a kernel tree: it has no Makefile"):
        tree.kernel(tmp_path)


def test_a_tree_without_configuration_may_be_the_sources_of_another(built: Path) -> None:
    (built / ".config").unlink()
    with pytest.raises(UsageError, match=r"it lacks \.config") as caught:
        tree.kernel(built)
    assert "O=DIR" in caught.value.evidence[0]
    assert caught.value.hint == f"make -C {built} defconfig bzImage modules"


@pytest.mark.parametrize("name", ["my linux", "a:b"])
def test_a_path_in_which_make_cannot_work_is_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    with pytest.raises(UsageError, match="blank or a colon") as caught:
        tree.kernel(tmp_path / name)
    assert (caught.value.hint or "").startswith("mv ")


def test_a_kernel_without_modules_is_refused_whatever_else_it_lacks(built: Path) -> None:
    configure(built, CONFIG.replace("CONFIG_MODULES=y", "# CONFIG_MODULES is not set"))
    (built / "Module.symvers").unlink()
    with pytest.raises(UsageError, match=r"\.config does not set CONFIG_MODULES") as caught:
        tree.kernel(built)
    assert "-e MODULES && make -C" in (caught.value.hint or "")


def test_a_configuration_that_was_changed_after_the_build_is_refused(built: Path) -> None:
    configure(built, f"{CONFIG}CONFIG_A=m\nCONFIG_B=y\n")
    (built / ".config").write_text(f"{CONFIG}CONFIG_A=y\nCONFIG_C=1\nCONFIG_D=1\n")
    with pytest.raises(UsageError, match=r"\.config was changed after") as caught:
        tree.kernel(built)
    assert caught.value.evidence == (
        "CONFIG_A is y now, and was m",
        "CONFIG_B is not set now, and was y",
        "CONFIG_C is 1 now, and was not set",
        "and 1 more",
    )
    assert caught.value.hint == f"make -C {built} olddefconfig bzImage modules"


@pytest.mark.parametrize("built_as", ['"a \\"b\\" c"', 'a "b" c'])
def test_both_spellings_of_a_string_are_the_same_configuration(built: Path, built_as: str) -> None:
    configure(built, f"{CONFIG}CONFIG_S={built_as}\n")
    (built / ".config").write_text(f'# Linux/x86 5.17\n{CONFIG}CONFIG_S="a \\"b\\" c"\n')
    assert tree.kernel(built).release == "5.17.0"


def boot_image(text: bytes) -> bytes:
    """The setup header of an x86 image, with the string of its version at 0x3000."""
    head = bytearray(0x3000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x3000 - 0x200).to_bytes(2, "little")
    return bytes(head) + text + bytes(100)


def test_an_image_of_another_build_is_refused(built: Path) -> None:
    image = built / "arch/x86/boot/bzImage"
    image.write_bytes(boot_image(b"5.17.0 (me@here) #1 SMP\0"))
    assert tree.kernel(built).release == "5.17.0"
    image.write_bytes(boot_image(b"5.17.0-dirty (me@here) #1 SMP\0"))
    with pytest.raises(UsageError, match=r"5\.17\.0-dirty, and the tree is 5\.17\.0\n") as caught:
        tree.kernel(built)
    assert str(image) in caught.value.summary


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
    configure(built, f"CONFIG_MODULES=y\n{config}")
    with pytest.raises(UsageError, match=said):
        tree.kernel(built)


@pytest.mark.parametrize(
    ("text", "cc"),
    [
        ("gcc (Debian 12.2.0-14) 12.2.0", "gcc"),
        ("gcc-12 (Debian 12.2.0-14) 12.2.0", "gcc-12"),
        ("x86_64-pc-linux-gnu-gcc (Gentoo) 12.2.0", "gcc-12"),
        ("../evil (GCC) 12.2.0", "gcc-12"),
        ("", "gcc-12"),
    ],
)
def test_the_compiler_is_called_as_the_kernel_s_was_where_the_root_has_that_name(
    built: Path, root: Path, text: str, cc: str
) -> None:
    (root / "usr/bin").mkdir()
    (root / "usr/evil").touch()
    (root / "usr/bin/gcc-12").touch()
    (root / "usr/bin/gcc").symlink_to("gcc-12")
    configure(built, f'{CONFIG}CONFIG_CC_VERSION_TEXT="{text}"\n')
    assert tree.kernel(built).toolchain.cc == cc


def as_user(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """As for somebody who may not read `denied`, whoever runs the tests."""
    read_text = Path.read_text

    def refuse(self: Path, *rest: str, **options: str) -> str:
        if self == denied:
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *rest, **options)

    monkeypatch.setattr(Path, "read_text", refuse)


def test_a_file_that_may_not_be_read_is_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, built / ".config")
    with pytest.raises(UsageError) as caught:
        tree.kernel(built)
    assert caught.value.summary == f"{built / '.config'} is not readable by you"
    assert caught.value.hint == f"sudo chmod -R a+rX {built}"


def test_a_closed_directory_above_the_tree_is_what_to_open(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = built.parent
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)
    as_user(monkeypatch, built / ".config")
    with pytest.raises(UsageError) as caught:
        tree.kernel(built)
    assert caught.value.hint == f"sudo chmod a+x {closed}"


@pytest.mark.parametrize(("mode", "refused"), [(0o640, True), (0o644, False)])
def test_root_is_told_of_a_tree_that_its_builds_cannot_read(
    built: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    (built / "Module.symvers").chmod(mode)
    owned_by(monkeypatch, 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if not refused:
        assert tree.kernel(built).release == "5.17.0"
        return
    with pytest.raises(UsageError, match=r"Module\.symvers is readable by its owner alone"):
        tree.kernel(built)


def owned_by(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    own_stat = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        fields = list(own_stat(self, follow_symlinks=follow_symlinks))
        fields[4] = user
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)


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


def test_the_identity_changes_with_the_modules_that_are_installed(built: Path) -> None:
    before = tree.kernel(built).identity
    modules = built / "lib/modules/5.17.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    installed = tree.kernel(built).identity
    os.utime(modules / "modules.dep", ns=(1, 1))
    assert len({before, installed, tree.kernel(built).identity}) == 3


@pytest.mark.parametrize("name", ["link", "linux/../linux", "linux/"])
def test_a_tree_is_the_same_kernel_by_every_path_to_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "link").symlink_to(built)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tree.kernel(built)
    assert store.get(f"tree:{name}") == expected
    assert store.get(f"tree:~/{name}") == expected


def test_an_output_directory_brings_its_sources(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (built / "source").symlink_to(source)
    assert tree.kernel(built).binds == ((source, str(source)), (built, str(built)))


def test_an_output_directory_whose_sources_are_gone_is_refused(built: Path) -> None:
    (built / "source").symlink_to("/nowhere/linux")
    with pytest.raises(UsageError, match="leads to /nowhere/linux") as caught:
        tree.kernel(built)
    assert f"O={built}" in (caught.value.hint or "")


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


def test_the_image_may_be_beside_the_modules(tmp_path: Path) -> None:
    installed_host(tmp_path)
    modules = tmp_path / "lib/modules/6.1.0-50-amd64"
    (tmp_path / "boot/vmlinuz-6.1.0-50-amd64").rename(modules / "vmlinuz")
    assert host.kernel(root=tmp_path, release="6.1.0-50-amd64").image == modules / "vmlinuz"


def test_an_image_that_may_not_be_read_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_host(tmp_path)
    image = tmp_path / "boot/vmlinuz-6.1.0-50-amd64"
    monkeypatch.setattr(os, "access", lambda path, mode: path != image)
    with pytest.raises(HostError, match="is not readable") as caught:
        host.kernel(root=tmp_path, release="6.1.0-50-amd64")
    assert caught.value.hint == f"sudo chmod a+r {image}"


def test_the_running_kernel_is_that_of_uname(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        host.kernel(root=tmp_path)
    assert os.uname().release in caught.value.summary
