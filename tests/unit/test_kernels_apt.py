from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lkm import proc
from lkm.arch import X86_64
from lkm.errors import HostError, UsageError
from lkm.kernels import apt, downloads
from lkm.progress import SILENT

_POOL = "http://m/debian/pool/main"
_IMAGE = "linux-image-6.12.107+deb13-cloud-amd64_6.12.107-1_amd64.deb"
URIS = f"""\
Reading package lists...
The following NEW packages will be installed:
  gcc-14 linux-image-6.12.107+deb13-cloud-amd64
'{_POOL}/g/gcc-14/gcc-14_14.2.0-19_amd64.deb' gcc-14_14.2.0-19_amd64.deb 540064 MD5Sum:7b5c
'{_POOL}/l/linux/{_IMAGE.replace("+", "%2b")}' {_IMAGE} 34402644 SHA256:066d
'{_POOL}/m/mpfr/libmpfr6_4.2.2-1_amd64.deb' libmpfr6_1%3a4.2.2-1_amd64.deb 12 SHA256:aa
'{_POOL}/l/linux-base/linux-base_4.17%7ebpo13%2b1_all.deb' linux-base_4.17~bpo13+1_all.deb 26836{" "}
"""

REFUSED_KEY = """\
Err:1 http://mirror.example/debian trixie InRelease
  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 648ACFD6
W: GPG error: http://mirror.example/debian trixie InRelease: The following signatures couldn't be verified
E: The repository 'http://mirror.example/debian trixie InRelease' is not signed.
"""
REFUSED_HASH = """\
dlstatus:1:20.5:Retrieving file 1 of 1
E: Failed to fetch http://mirror.example/debian/pool/x.deb  Hash Sum mismatch
   Hashes of expected file:
"""
OFFLINE = """\
Err:1 http://mirror.example/debian trixie InRelease
  Could not resolve 'mirror.example'
E: Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  Could not resolve 'mirror.example'
"""
FULL = """\
E: Failed to fetch http://m/debian/x.deb  Error writing to file - write (28: No space left on device)
"""
GONE = "E: Failed to fetch http://mirror.example/debian/pool/x.deb  404  Not Found [IP: 192.0.2.1 80]\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LKM_CONFIG", str(tmp_path / "lkm.toml"))
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://mirror.example/debian")
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "keyring", lambda: keyring)
    apt._configured_targets.cache_clear()
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("lines", "mirror"),
    [
        (["http://m/debian/|Debian|bookworm"], "http://m/debian/"),
        (["http://m/debian/|$(ORIGIN)|trixie"], "http://m/debian/"),
        (["http://m/linux/deb/|Debian|stable"], "http://m/linux/deb/"),
        (["mirror+file:/etc/apt/mirrors/debian.list/|Debian|bookworm"],
         "mirror+file:/etc/apt/mirrors/debian.list/"),
        (["http://m/debian-security/|Debian|bookworm-security", "http://m/debian/|Debian|bookworm"],
         "http://m/debian/"),
        (["cdrom:[Debian]/|Debian|bookworm", "http://n/debian/|Debian|bookworm"], "http://n/debian/"),
        (["http://m/ubuntu/|Ubuntu|noble"], None),
        (["http://m/nodesource/|$(ORIGIN)|nodistro"], None),
        ([], None),
    ],
)  # fmt: skip
def test_the_mirror_is_the_first_debian_archive_that_apt_knows(
    lines: list[str], mirror: str | None
) -> None:
    assert apt._pick_mirror(lines) == mirror


def test_a_configured_mirror_is_used_without_asking_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "run", _must_not_run)
    assert apt.find_mirror() == "http://mirror.example/debian"


def test_a_mirror_that_is_no_url_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "mirror.example")
    with pytest.raises(UsageError, match="is not a URL"):
        apt.find_mirror()


def test_a_computer_without_a_debian_mirror_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LKM_DEBIAN_MIRROR")
    answer = proc.Finished((), 0, "http://m/ubuntu/|Ubuntu|noble", 0.0)
    monkeypatch.setattr(proc, "run", lambda *_, **__: answer)
    with pytest.raises(HostError) as caught:
        apt.find_mirror()
    assert "LKM_DEBIAN_MIRROR" in (caught.value.hint or "")
    assert "lkm.toml" in (caught.value.hint or "")
    assert "Ubuntu" in str(caught.value)
    apt._configured_targets.cache_clear()


def _must_not_run(*_: object, **__: object) -> None:
    raise AssertionError("a process was started")


def test_a_world_keeps_all_of_apts_state_to_itself(cache: Path) -> None:
    made = apt.world("trixie", X86_64)
    text = (made.directory / "apt.conf").read_text()
    settings = dict(re.findall(r'^(\S+) "(.*)";$', text, re.MULTILINE))
    state = [key for key in settings if key.startswith(("Dir::State", "Dir::Cache", "Dir::Log"))]
    assert state
    assert settings.pop("Dir::Cache::srcpkgcache") == ""
    assert all(settings[key].startswith(str(cache)) for key in state if key in settings)
    assert settings["Dir::Cache::pkgcache"]
    assert "Dir::Etc::main" not in settings
    assert "Dir::Etc::parts" not in settings
    assert (made.directory / "status").read_bytes() == b""


def test_a_world_that_is_there_leaves_apts_caches_valid(cache: Path) -> None:
    status = apt.world("trixie", X86_64).directory / "status"
    os.utime(status, (1000, 1000))
    apt.world("trixie", X86_64)
    assert status.stat().st_mtime == 1000


def test_a_world_trusts_debians_keyring_alone() -> None:
    for suite in ("trixie", "trixie-backports"):
        lines = apt.source_lines(apt.world(suite, X86_64))
        assert all(f"signed-by={apt.keyring()}]" in line for line in lines)


def test_backports_bring_the_suite_that_they_add_to() -> None:
    lines = apt.source_lines(apt.world("trixie-backports", X86_64))
    assert [line.split()[-2] for line in lines] == ["trixie", "trixie-backports"]


def test_a_new_mirror_makes_the_lists_old(monkeypatch: pytest.MonkeyPatch) -> None:
    apt.world("trixie", X86_64).stamp.touch()
    assert apt.world("trixie", X86_64).stamp.exists()
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://other.example/debian")
    assert not apt.world("trixie", X86_64).stamp.exists()


def test_fresh_lists_are_believed_and_old_ones_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    made = apt.world("trixie", X86_64)
    made.stamp.touch()
    monkeypatch.setattr(proc, "run", _must_not_run)
    assert apt.refresh(made)
    os.utime(made.stamp, (0, 0))
    with pytest.raises(AssertionError, match="a process was started"):
        apt.refresh(made)


def test_a_suite_that_the_mirror_lacks_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "E: The repository 'http://mirror.example/debian forky Release' does not have a Release file."
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Finished((), 100, said, 0.0))
    made = apt.world("forky", X86_64)
    assert not apt.refresh(made)
    assert not made.stamp.exists()


def test_packages_are_read_from_print_uris() -> None:
    packages = apt._parse_uris(URIS)
    assert [(p.name, p.version, p.size) for p in packages] == [
        ("gcc-14", "14.2.0-19", 540064),
        ("linux-image-6.12.107+deb13-cloud-amd64", "6.12.107-1", 34402644),
        ("libmpfr6", "1:4.2.2-1", 12),
        ("linux-base", "4.17~bpo13+1", 26836),
    ]


def test_a_file_whose_sha256_is_not_known_is_not_downloaded(tmp_path: Path) -> None:
    (weak, *_) = apt._parse_uris(URIS)
    with pytest.raises(HostError, match="no SHA256 of gcc-14_14"):
        downloads.get(apt.world("trixie", X86_64), [weak], tmp_path)


def test_a_list_of_mirrors_is_left_to_apt_get(monkeypatch: pytest.MonkeyPatch) -> None:
    package = apt._parse_uris(URIS)[1]
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "mirror+file:/etc/apt/mirrors/debian.list")
    argv = downloads._argv(apt.world("trixie", X86_64), [package])
    assert argv[0] == "apt-get"
    assert argv[-1] == f"{package.name}={package.version}"
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://mirror.example/debian")
    argv = downloads._argv(apt.world("trixie", X86_64), [package])
    assert argv[-3:] == [package.uri, package.filename, package.digest]


@pytest.mark.parametrize(
    ("output", "summary", "evidence", "hint"),
    [
        (REFUSED_KEY, "failed verification", "NO_PUBKEY", "mirror"),
        (REFUSED_HASH, "failed verification", "Hash Sum mismatch", "mirror"),
        (OFFLINE, "the mirror cannot be reached", "Could not resolve", "network"),
        (FULL, "no space left", "No space left on device", "lkm kernel rm"),
        (GONE, "cannot be had", "404", "lkm kernel list"),
        ("E: Unable to locate package x", "cannot be had", "Unable to locate", "lkm kernel list"),
    ],
)
def test_a_failure_says_its_kind_in_apts_words(
    output: str, summary: str, evidence: str, hint: str
) -> None:
    error = apt.failure("the thing", output)
    assert error.exit_code == 3
    assert summary in error.summary
    assert any(evidence in line for line in error.evidence)
    assert not any(line.startswith("dlstatus") for line in error.evidence)
    assert hint in (error.hint or "")


def test_a_full_disk_says_how_much_is_free(cache: Path) -> None:
    error = apt.failure("the thing", FULL)
    assert "MB are free at" in error.summary
    assert str(cache) in error.summary
    assert "LKM_CACHE_DIR" in (error.hint or "")


def test_a_package_that_is_gone_is_looked_up_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def refresh(_: apt.World, *, force: bool = False, progress: object = None) -> bool:
        asked.append(force)
        return True

    monkeypatch.setattr(apt, "refresh", refresh)

    def work(_: apt.World) -> str:
        if not asked[-1]:
            raise apt.failure("x", GONE)
        return "got it"

    assert apt.retrying(apt.world("trixie", X86_64), work, SILENT) == "got it"
    assert asked == [False, True]


def test_other_failures_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "refresh", lambda *_, **__: True)
    tries: list[int] = []

    def work(_: apt.World) -> None:
        tries.append(1)
        raise apt.failure("x", OFFLINE)

    with pytest.raises(HostError):
        apt.retrying(apt.world("trixie", X86_64), work, SILENT)
    assert len(tries) == 1
