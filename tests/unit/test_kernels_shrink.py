from __future__ import annotations

from pathlib import Path

import pytest

from lkm import ko
from lkm.kernels import packaging, shrink

RELEASE = "6.1.0-50-amd64"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    directory = tmp_path / "lib/modules" / RELEASE
    (directory / "kernel/net").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (directory / f"kernel/net/{name}.ko").write_bytes(b"\x7fELF" + name.encode() * 1000)
    (directory / "modules.dep").write_text("kernel/net/a.ko: kernel/net/b.ko kernel/net/c.ko\n")
    (directory / "modules.dep.bin").touch()
    (directory / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return directory


def test_large_modules_are_compressed_and_indexed_by_their_new_names(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink, "_LARGE", 3000)
    shrink.compress_modules(modules)
    files = sorted(path.name for path in (modules / "kernel/net").iterdir())
    assert files == ["a.ko.zst", "b.ko.zst", "c.ko.zst"]
    assert ko.read_image(modules / "kernel/net/b.ko.zst") == b"\x7fELF" + b"b" * 1000
    line = (modules / "modules.dep").read_text()
    assert line == "kernel/net/a.ko.zst: kernel/net/b.ko.zst kernel/net/c.ko.zst\n"
    assert not (modules / "modules.dep.bin").exists()
    assert (modules / "modules.builtin").read_text() == "kernel/fs/ext4/ext4.ko\n"


def test_small_modules_stay_as_debian_packaged_them(modules: Path) -> None:
    shrink.compress_modules(modules)
    assert (modules / "kernel/net/a.ko").is_file()
    assert (modules / "modules.dep.bin").is_file()


@pytest.mark.parametrize(
    ("package", "directory"),
    [
        ("linux-headers-5.10.0-32-common", "usr/src/linux-headers-5.10.0-32-common"),
        ("linux-headers-6.1.0-50-common-rt", "usr/src/linux-headers-6.1.0-50-common-rt"),
        ("linux-headers-7.3-common", "usr/src/linux-headers-7.3-common"),
        ("linux-kbuild-6.12.117+deb13", "usr/lib/linux-kbuild-6.12.117+deb13"),
        ("linux-headers-6.1.0-50-cloud-amd64", None),
        ("linux-image-6.1.0-50-rt-amd64", None),
    ],
)
def test_what_flavours_share_is_known_by_its_package(package: str, directory: str | None) -> None:
    assert packaging.shared_directory(package) == directory


@pytest.mark.parametrize(
    ("packages", "compiler"),
    [
        (["linux-kbuild-5.10", "gcc-10"], "gcc-10"),
        (["linux-headers-7.3-common", "gcc-16-for-host"], "gcc-16"),
        (["gcc-14-base", "libgcc-14-dev"], None),
    ],
)
def test_the_compiler_is_what_the_headers_depend_on(
    packages: list[str], compiler: str | None
) -> None:
    assert packaging.compiler(packages) == compiler
