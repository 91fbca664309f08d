from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lkm.errors import HostError, UsageError
from lkm.kernels import catalog, selection, store
from lkm.kernels.catalog import Offer

OFFERED = {
    "bullseye": ("5.10.0-30-cloud-amd64", "5.10.0-32-cloud-amd64", "5.10.0-32-rt-amd64"),
    "bookworm": ("6.1.0-47-cloud-amd64", "6.1.0-50-cloud-amd64", "6.1.0-50-amd64"),
    "bookworm-backports": ("6.12.121+deb12-cloud-amd64",),
    "trixie": ("6.12.117+deb13-cloud-amd64", "6.12.117+deb13-rt-amd64", "6.12.117+deb13-amd64"),
    "forky": ("7.2.13+deb14-cloud-amd64",),
    "sid": ("7.2.13+deb14-cloud-amd64",),
    "experimental": ("7.3-cloud-amd64", "7.3-rt-amd64"),
}
CLOUD = (
    "5.10.0-30-cloud-amd64",
    "5.10.0-32-cloud-amd64",
    "6.1.0-47-cloud-amd64",
    "6.1.0-50-cloud-amd64",
    "6.12.117+deb13-cloud-amd64",
    "6.12.121+deb12-cloud-amd64",
    "7.2.13+deb14-cloud-amd64",
    "7.3-cloud-amd64",
)


def offer(release: str, suite: str) -> Offer:
    flavour = catalog.flavour_of(release)
    assert flavour is not None
    version = release.replace("7.3-", "7.3~rc7-").partition("-cloud")[0]
    return Offer(release, suite, flavour, version, f"linux-image-{release}", "")


def offers_of(suite: str, **_: object) -> tuple[Offer, ...]:
    return tuple(offer(release, suite) for release in OFFERED.get(suite, ()))


OnDisk = Callable[..., None]


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> OnDisk:
    def put(*releases: str) -> None:
        kernels = [offer(release, "bookworm") for release in releases]
        monkeypatch.setattr(store, "installed", lambda: kernels)

    return put


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(catalog, "offers", offers_of)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked = []

    def unreachable(suite: str, **_: object) -> tuple[Offer, ...]:
        asked.append(suite)
        raise HostError("the mirror cannot be reached")

    monkeypatch.setattr(catalog, "offers", unreachable)
    return asked


@pytest.mark.parametrize(
    ("text", "releases"),
    [
        ("6.1", ("6.1.0-50-cloud-amd64",)),
        ("6.1-generic", ("6.1.0-50-amd64",)),
        ("6.1.0-47-cloud-amd64", ("6.1.0-47-cloud-amd64",)),
        ("debian:trixie", ("6.12.117+deb13-cloud-amd64",)),
        ("debian:trixie-rt", ("6.12.117+deb13-rt-amd64",)),
        ("all", CLOUD),
        ("all-rt", ("5.10.0-32-rt-amd64", "6.12.117+deb13-rt-amd64", "7.3-rt-amd64")),
        ("oldest", ("5.10.0-30-cloud-amd64",)),
        ("newest", ("7.3-cloud-amd64",)),
        ("newest-generic", ("6.12.117+deb13-amd64",)),
        ("newest,oldest", ("5.10.0-30-cloud-amd64", "7.3-cloud-amd64")),
        ("6.1..7.2", ("6.1.0-50-cloud-amd64", "6.12.117+deb13-cloud-amd64", CLOUD[6])),
        ("..6.1", ("5.10.0-32-cloud-amd64", "6.1.0-50-cloud-amd64")),
        ("7.0..", ("7.2.13+deb14-cloud-amd64", "7.3-cloud-amd64")),
        ("5.10..7.3-rt", ("5.10.0-32-rt-amd64", "6.12.117+deb13-rt-amd64", "7.3-rt-amd64")),
        ("*-rt-amd64", ("5.10.0-32-rt-amd64", "6.12.117+deb13-rt-amd64", "7.3-rt-amd64")),
        ("6.1.*", ("6.1.0-47-cloud-amd64", "6.1.0-50-cloud-amd64", "6.1.0-50-amd64")),
        ("7.2, 6.1 ,7.2", ("6.1.0-50-cloud-amd64", "7.2.13+deb14-cloud-amd64")),
        ("6.12*deb13*,6.12-rt,6.12", ("6.12.117+deb13-cloud-amd64", "6.12.117+deb13-amd64",
                                      "6.12.117+deb13-rt-amd64")),
        ("host,tree:/src/a..b*,6.1", ("6.1.0-50-cloud-amd64", "host", "tree:/src/a..b*")),
    ],
)  # fmt: skip
def test_names_mean_kernels_oldest_first(text: str, releases: tuple[str, ...]) -> None:
    assert selection.select(text) == releases


def test_a_series_in_a_range_is_the_kernel_that_its_own_name_means() -> None:
    assert selection.select("6.12..6.12") == selection.select("6.12")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name that is empty"),
        ("6.1,,7.2", "write 6.1,7.2"),
        ("oldst", "oldest"),
        ("newest-rtt", "newest-rt"),
        ("7.2..6.1", "write 6.1..7.2"),
        ("..", "is not a range"),
        ("6.1..foo", "is not a range"),
        ("6.1.0-47..6.1.0-50", "is not a range"),
        ("6.2..6.11", "5.10, 6.1, 6.12, 7.2, 7.3"),
        ("*-clout-*", "no kernel on offer is in the glob"),
        ("6.3", "no kernel is called '6.3'"),
        ("6.1.0-51-cloud-amd64", "no kernel is called"),
        ("tree:", "names no directory"),
    ],
)
def test_a_name_that_no_kernel_has_is_refused_with_a_hint(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        selection.select(text)
    assert said in str(caught.value)
    assert caught.value.hint


def test_without_the_archive_it_is_what_is_on_this_disk(
    on_disk: OnDisk, offline: list[str]
) -> None:
    here = ("6.1.0-47-cloud-amd64", "6.1.0-50-amd64", "6.12.117+deb13-cloud-amd64")
    on_disk(*here)
    assert selection.select("oldest,newest") == (here[0], here[2])
    assert selection.select("6.1-generic") == (here[1],)
    assert selection.select("6.0..6.1,6.1*") == here


def test_an_archive_that_does_not_answer_is_asked_once(on_disk: OnDisk, offline: list[str]) -> None:
    on_disk("6.1.0-47-cloud-amd64", "6.12.117+deb13-cloud-amd64")
    selection.select("6.1,6.12,6.1..,newest,all")
    assert offline == ["bookworm"]


@pytest.mark.parametrize("text", ["6.1", "all"])
def test_with_neither_archive_nor_kernel_the_archives_error_is_told(
    offline: list[str], text: str
) -> None:
    with pytest.raises(HostError, match="cannot be reached"):
        selection.select(text)


def test_a_kernel_on_this_disk_is_told_from_its_release_without_asking(
    on_disk: OnDisk, offline: list[str]
) -> None:
    on_disk("6.16.3+deb13-cloud-amd64")
    assert selection.select("6.16.3+deb13-cloud-amd64") == ("6.16.3+deb13-cloud-amd64",)
    assert offline == []


def test_a_kernel_that_was_withdrawn_is_still_had_from_this_disk(on_disk: OnDisk) -> None:
    on_disk("6.16.3+deb13-cloud-amd64")
    assert selection.select("6.16") == ("6.16.3+deb13-cloud-amd64",)
