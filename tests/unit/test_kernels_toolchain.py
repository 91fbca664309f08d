from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm import proc
from lkm.errors import HostError, UsageError
from lkm.kernels import toolchain


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_a_toolchain_that_was_never_made_is_not_found() -> None:
    assert toolchain.find("trixie", "gcc-14") is None


@pytest.mark.parametrize("meta", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "identity": "x"}'])
def test_a_toolchain_with_a_damaged_record_is_not_believed(cache: Path, meta: str) -> None:
    home = cache / "roots/trixie-gcc-14"
    (home / "root/usr").mkdir(parents=True)
    (home / "meta.json").write_text(meta)
    assert toolchain.find("trixie", "gcc-14") is None


def test_removing_a_toolchain_says_what_it_freed(cache: Path) -> None:
    home = cache / "roots/trixie-gcc-14"
    (home / "root/usr").mkdir(parents=True)
    meta = {"schema": toolchain.SCHEMA, "identity": "x", "bytes": 77}
    (home / "meta.json").write_text(json.dumps(meta))
    found = toolchain.find("trixie", "gcc-14")
    assert found is not None
    assert toolchain.remove(found) == 77
    assert toolchain.find("trixie", "gcc-14") is None


@pytest.mark.parametrize("directory", ["usr/bin", "bin"])
def test_the_links_of_maintainer_scripts_are_made(tmp_path: Path, directory: str) -> None:
    binaries = tmp_path / "root" / directory
    binaries.mkdir(parents=True)
    for name in ("mawk", "gcc-14", "dash"):
        (binaries / name).touch()
    toolchain._finish(tmp_path / "root", "gcc-14")
    links = {path.name: str(path.readlink()) for path in binaries.iterdir() if path.is_symlink()}
    assert links == {"awk": "mawk", "cc": "gcc-14", "gcc": "gcc-14", "sh": "dash"}


def test_a_link_that_a_package_brings_is_kept(tmp_path: Path) -> None:
    binaries = tmp_path / "root/bin"
    binaries.mkdir(parents=True)
    (binaries / "dash").touch()
    (binaries / "sh").symlink_to("bash")
    toolchain._finish(tmp_path / "root", "gcc-14")
    assert str((binaries / "sh").readlink()) == "bash"


def test_the_package_with_the_directory_links_is_unpacked_first() -> None:
    files = [Path("/a/acl_1.deb"), Path("/a/base-files_13_amd64.deb"), Path("/a/base_1.deb")]
    assert toolchain.links_first(files)[0].name == "base-files_13_amd64.deb"


@pytest.mark.parametrize(
    ("gcc", "glibc", "chosen"),
    [
        (100201, 31, ("bullseye", "gcc-10")),
        (120200, 0, ("bookworm", "gcc-12")),
        (120300, 38, ("trixie", "gcc-12")),
        (140200, 41, ("trixie", "gcc-14")),
        (150100, 0, ("forky", "gcc-15")),
    ],
)
def test_the_compiler_is_that_of_the_kernel(gcc: int, glibc: int, chosen: tuple[str, str]) -> None:
    assert toolchain.compiler_for(gcc, glibc, "/src/linux") == chosen


def test_a_compiler_that_no_suite_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        toolchain.compiler_for(990000, 0, "/src/linux")
    assert "gcc 99" in caught.value.summary
    assert any(line.startswith("trixie: ") for line in caught.value.evidence)


def test_the_libc_that_programs_need_is_read_from_them(tmp_path: Path) -> None:
    program = tmp_path / "modpost"
    program.write_bytes(b"\x7fELF\0libc.so.6\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_2.9\0")
    assert toolchain.glibc_needed([program, tmp_path / "none"]) == 34
    assert toolchain.glibc_needed([]) == 0


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("/a/x.deb\ntar: ./f: Cannot write: No space left on device", "no space left"),
        ("/a/x.deb\ndpkg-deb: error: 'x.deb' is not a Debian format archive", "unpacking k failed"),
    ],
)
def test_an_archive_that_does_not_unpack_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Finished((), 1, output, 0.0))
    with pytest.raises(HostError) as caught:
        toolchain.unpack([Path("/a/x.deb")], tmp_path / ".partial-k.01/root")
    assert said in str(caught.value)
    assert output.splitlines()[-1] in caught.value.evidence


def test_a_store_may_lie_behind_a_link(tmp_path: Path) -> None:
    source = tmp_path / "p"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: p\nDescription: p\n"
    )
    (source / "f").write_text("f")
    store = tmp_path / "disk/kernels"
    (store / "k").mkdir(parents=True)
    (tmp_path / "kernels").symlink_to(store)
    archive = tmp_path / "kernels/p.deb"
    done = proc.run(["dpkg-deb", "--build", str(source), str(archive)], stage="test", timeout=60)
    assert done.returncode == 0, done.output
    toolchain.unpack([archive], tmp_path / "kernels/k")
    assert (store / "k/f").read_text() == "f"
