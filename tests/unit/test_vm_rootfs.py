"""What a guest has besides lkm's own files."""

from __future__ import annotations

from pathlib import Path

from lkm.arch import X86_64
from lkm.vm.initramfs import Entry, archive
from lkm.vm.qemu import Config
from lkm.vm.rootfs import Rootfs, entries


def rootfs(*directories: Path, name: str = "test", identity: str = "1") -> Rootfs:
    return Rootfs(name, directories, identity)


def test_directories_files_and_links_are_packed_parents_first(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tool").write_bytes(b"#!")
    (tmp_path / "usr/bin/tool").chmod(0o755)
    (tmp_path / "usr/bin/alias").symlink_to("tool")
    (tmp_path / "lib").symlink_to("usr/lib")
    packed = list(entries(rootfs(tmp_path)))
    assert [entry.path for entry in packed] == [
        "lib", "usr", "usr/bin", "usr/bin/alias", "usr/bin/tool",
    ]  # fmt: skip
    by_path = {entry.path: entry for entry in packed}
    assert by_path["usr/bin/tool"] == Entry("usr/bin/tool", 0o100755, b"#!")
    assert by_path["usr/bin/alias"].data == b"tool"
    assert by_path["lib"].mode >> 12 == 0o12


def test_a_link_does_not_take_the_place_of_the_guests_own_directory(tmp_path: Path) -> None:
    for name in ("bin", "sbin", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    assert [entry.path for entry in entries(rootfs(tmp_path))] == ["lib64"]


def test_later_directories_come_later(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/motd").write_text(name)
    packed = entries(rootfs(tmp_path / "first", tmp_path / "second"))
    assert [e.data for e in packed if e.path == "etc/motd"] == [b"first", b"second"]


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert [entry.path for entry in entries(rootfs(tmp_path))] == ["file"]
    assert archive(entries(rootfs(tmp_path))).startswith(b"070701")


def test_the_configuration_names_a_rootfs_only_where_there_is_one(tmp_path: Path) -> None:
    plain = Config(X86_64).to_dict()
    assert "rootfs" not in plain
    one, two = (Config(X86_64, rootfs=rootfs(tmp_path, identity=i)) for i in "12")
    assert one != two
    assert one.to_dict() == two.to_dict() == {**plain, "rootfs": "test"}
