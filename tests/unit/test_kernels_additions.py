"""A source's own packages in its toolchain: apt, dpkg-deb and the unpacking are real, the archive is small."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.mirror import serving
from tests.unit.debian_archive import Archive

from lkm import project, source
from lkm.errors import BuildError
from lkm.kernels import additions, apt, dkms, toolchain
from lkm.kernels.kernel import Toolchain
from lkm.project import Packages


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    made = Archive(tmp_path_factory.mktemp("archive"))
    made.add("libthing1", {"usr/lib/libthing.so.1": b"elf\n"}, section="libs")
    made.add("libthing-dev", {"usr/include/thing.h": b"new\n"}, "libthing1", "libdevel")
    made.add("thing-tools", {"usr/bin/thing": b"#!\n"}, section="contrib/devel")
    made.add("xserver", {"usr/bin/X": random.Random(0).randbytes(200_000)}, section="x11")
    made.add("dkms", {}, section="devel")
    made.add(
        "thing-dkms",
        {"usr/src/thing-1/dkms.conf": b"PACKAGE_NAME=thing\n"},
        "dkms (>= 3), xserver, libthing-dev (>= 1), gone | thing-tools:any, gone",
    )
    made.publish()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _world(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving(archive.find) as server:
        monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("LKM_CONFIG", str(tmp_path / "lkm.toml"))
        monkeypatch.setenv("LKM_DEBIAN_MIRROR", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(apt, "keyring", lambda: archive.keyring)
        yield


@pytest.fixture
def tools() -> Toolchain:
    home = toolchain.roots_dir() / "trixie-gcc-14"
    (home / "root/usr/include").mkdir(parents=True)
    (home / "root/usr/include/thing.h").write_text("old\n")
    (home / "root/usr/include/stdio.h").write_text("int puts();\n")
    (home / "root/include").symlink_to("usr/include")
    meta = {"schema": toolchain.SCHEMA, "identity": "abcd", "packages": ["libthing1 6.12.1-1"]}
    (home / "meta.json").write_text(json.dumps(meta))
    return Toolchain("trixie", home / "root", "gcc-14", "abcd")


def test_a_toolchain_has_the_packages_and_what_it_had(tools: Toolchain) -> None:
    more = additions.ensure(tools, Packages(("libthing-dev",)))
    assert (more.root / "usr/include/thing.h").read_text() == "new\n"
    assert (more.root / "include/stdio.h").read_text() == "int puts();\n"
    assert (more.suite, more.cc) == (tools.suite, tools.cc)
    assert more.identity != tools.identity


def test_the_plain_one_stays_as_it_was(tools: Toolchain) -> None:
    more = additions.ensure(tools, Packages(("libthing-dev",)))
    assert (tools.root / "usr/include/thing.h").read_text() == "old\n"
    shared = tools.root / "usr/include/stdio.h"
    assert shared.samefile(more.root / "usr/include/stdio.h")


def test_what_the_plain_one_has_is_not_fetched_again(tools: Toolchain) -> None:
    more = additions.ensure(tools, Packages(("libthing-dev",)))
    assert not (more.root / "usr/lib/libthing.so.1").exists()


def test_a_toolchain_that_has_them_is_the_plain_one(tools: Toolchain) -> None:
    assert (
        additions.ensure(
            tools,
            Packages(
                (
                    "libthing1",
                    "gone | libthing1",
                )
            ),
        )
        == tools
    )


def test_it_is_made_once(tools: Toolchain) -> None:
    first = additions.ensure(
        tools,
        Packages(
            (
                "libthing-dev",
                "thing-tools",
            )
        ),
    )
    made = first.root.stat().st_ino
    second = additions.ensure(
        tools,
        Packages(
            (
                "thing-tools",
                "libthing-dev",
            )
        ),
    )
    assert (second, second.root.stat().st_ino) == (first, made)


def test_the_first_alternative_that_the_suite_has(tools: Toolchain) -> None:
    assert (
        additions.ensure(tools, Packages(("gone | thing-tools",))).root / "usr/bin/thing"
    ).exists()


def test_a_package_that_the_suite_does_not_have(tools: Toolchain) -> None:
    with pytest.raises(BuildError, match="libthingy-dev, which Debian trixie does not") as caught:
        additions.ensure(tools, Packages(("libthingy-dev",)))
    assert caught.value.evidence[0].startswith("nearest: libthing-dev, ")
    assert not list((toolchain.roots_dir().parent / "additions").glob("trixie*"))


def test_a_source_may_not_fill_the_disk(tools: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additions, "MAX_BYTES", 10)
    with pytest.raises(BuildError, match="libthing-dev of Debian trixie would download"):
        additions.ensure(tools, Packages(("libthing-dev",)))


def test_what_is_optional_is_there_where_the_suite_has_it(tools: Toolchain) -> None:
    more = additions.ensure(tools, Packages((), ("gone", "libthing-dev")))
    assert (more.root / "usr/include/thing.h").read_text() == "new\n"
    none = additions.ensure(tools, Packages((), ("gone",)))
    assert (none.root / "usr/include/thing.h").read_text() == "old\n"


def test_a_package_of_debian_names_what_its_build_may_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dkms, "_MAX_BYTES", 100_000)
    directory = dkms.package("thing-dkms")
    found = project.build_packages(source.find(directory))
    assert found == Packages(optional=("libthing-dev", "thing-tools"))
