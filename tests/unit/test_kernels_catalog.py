from __future__ import annotations

from pathlib import Path

import pytest

from lkm.arch import X86_64
from lkm.errors import UsageError
from lkm.kernels import catalog
from lkm.kernels.catalog import Offer, Wanted
from lkm.kernels.suites import SUITES, base_suite, suite_with

MADISON = """\
linux-image-6.12.107+deb13-cloud-amd64 | 6.12.107-1 | http://m/debian trixie/main amd64 Packages
linux-image-6.12.107+deb13-cloud-amd64-unsigned | 6.12.107-1 | http://m/debian trixie/main amd64 Packages
linux-headers-6.12.107+deb13-cloud-amd64 | 6.12.107-1 | http://m/debian trixie/main amd64 Packages
linux-image-6.12.94+deb13-rt-amd64-unsigned |  6.12.94-1 | http://m/debian trixie/main amd64 Packages
linux-headers-6.12.94+deb13-rt-amd64 |  6.12.94-1 | http://m/debian trixie/main amd64 Packages
linux-image-6.12.94+deb13-amd64 |  6.12.94-1 | http://m/debian trixie/main amd64 Packages
linux-image-7.2.5+deb13-amd64 | 7.2.5-1~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages
linux-headers-7.2.5+deb13-amd64 | 7.2.5-1~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    return tmp_path


def offer(release: str, suite: str = "trixie", version: str = "1") -> Offer:
    flavour = catalog.flavour_of(release)
    assert flavour is not None
    return Offer(
        release, suite, flavour, version, f"linux-image-{release}", f"linux-headers-{release}"
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (None, Wanted("debian:trixie", suite="trixie", flavour="cloud")),
        ("6.1", Wanted("6.1", series="6.1", flavour="cloud")),
        ("6.12.107", Wanted("6.12.107", series="6.12.107", flavour="cloud")),
        ("6.1-rt", Wanted("6.1-rt", series="6.1", flavour="rt")),
        ("6.1-generic", Wanted("6.1-generic", series="6.1", flavour="generic")),
        ("6.1.0-37-cloud-amd64", Wanted("6.1.0-37-cloud-amd64", release="6.1.0-37-cloud-amd64")),
        ("6.12.94+deb13-amd64", Wanted("6.12.94+deb13-amd64", release="6.12.94+deb13-amd64")),
        ("debian:sid", Wanted("debian:sid", suite="sid", flavour="cloud")),
        ("debian:sid-rt", Wanted("debian:sid-rt", suite="sid", flavour="rt")),
        (
            "debian:bookworm-backports",
            Wanted("debian:bookworm-backports", suite="bookworm-backports", flavour="cloud"),
        ),
        ("host", Wanted("host", provider="host")),
        ("tree:/src/linux", Wanted("tree:/src/linux", provider="tree", path=Path("/src/linux"))),
    ],
)
def test_a_name_is_understood(name: str | None, wanted: Wanted) -> None:
    assert catalog.parse_name(name) == wanted


@pytest.mark.parametrize(
    "name", ["", "foo", "6", "6.1-", "6.1-cluod", "debian:", "debian:woody", "tree:"]
)
def test_nonsense_is_refused_without_asking_anybody(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.parse_name(name)
    assert caught.value.hint


def test_a_misspelled_name_gets_the_nearest_ones() -> None:
    with pytest.raises(UsageError) as caught:
        catalog.parse_name("debian:trixi")
    assert "debian:trixie" in str(caught.value)


def test_a_name_is_never_suggested_for_itself() -> None:
    error = catalog.unknown("debian:trixie", [])
    assert all("debian:trixie," not in line for line in error.evidence)


@pytest.mark.parametrize(
    ("release", "flavour"),
    [
        ("6.1.0-37-cloud-amd64", "cloud"),
        ("6.12.107+deb13-rt-amd64", "rt"),
        ("5.10.0-32-amd64", "generic"),
        ("7.3-cloud-amd64", "cloud"),
        ("6.8.0-31-generic", None),
        ("5.17.0", None),
    ],
)
def test_the_flavour_is_part_of_a_debian_release(release: str, flavour: str | None) -> None:
    assert catalog.flavour_of(release) == flavour


@pytest.mark.parametrize(
    ("name", "release", "fits"),
    [
        ("6.1", "6.1.0-37-cloud-amd64", True),
        ("6.1", "6.1.0-37-amd64", False),
        ("6.1", "6.12.94+deb13-cloud-amd64", False),
        ("6.12.94", "6.12.94+deb13-cloud-amd64", True),
        ("6.12.9", "6.12.94+deb13-cloud-amd64", False),
        ("6.1-generic", "6.1.0-37-amd64", True),
        ("6.12-rt", "6.12.94+deb13-rt-amd64", True),
        ("7.3", "7.3-cloud-amd64", True),
        ("debian:trixie", "6.12.94+deb13-cloud-amd64", True),
        ("debian:forky", "6.12.94+deb13-cloud-amd64", False),
        ("6.12.94+deb13-rt-amd64", "6.12.94+deb13-rt-amd64", True),
        ("6.12.94+deb13-rt-amd64", "6.12.95+deb13-rt-amd64", False),
    ],
)
def test_a_name_fits_the_kernels_that_it_means(name: str, release: str, fits: bool) -> None:
    assert catalog.parse_name(name).fits(offer(release)) is fits


def test_versions_are_ordered_from_old_to_new() -> None:
    ordered = [
        "5.10.223-1",
        "6.1.0-9-cloud-amd64",
        "6.1.0-37-cloud-amd64",
        "6.12.94+deb13-amd64",
        "6.12.107+deb13-amd64",
        "7.2.12-1~bpo13+1",
        "7.2.12-1",
        "7.2.12-1+deb14u1",
        "7.2.12-2~bpo13+1",
        "7.3~rc2-1~exp1",
        "7.3~rc10-1~exp1",
        "7.3-1",
        "7.3-2",
        "7.3.1-1",
    ]
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=catalog.version_key) == ordered


def test_the_newest_is_taken_and_none_of_none() -> None:
    old = offer("6.12.94+deb13-amd64", version="6.12.94-1")
    new = offer("6.12.107+deb13-amd64", version="6.12.107-1")
    assert catalog.newest([new, old]) == new
    assert catalog.newest([]) is None


def test_a_backport_is_older_than_what_it_was_made_of() -> None:
    backport = offer("7.2.12+deb13-cloud-amd64", "trixie-backports", "7.2.12-1~bpo13+1")
    made_of = offer("7.2.12+deb14-cloud-amd64", "forky", "7.2.12-1")
    assert catalog.newest([backport, made_of]) == made_of


def test_a_candidate_is_older_than_a_point_release() -> None:
    candidate = offer("7.3-cloud-amd64", "experimental", "7.3~rc7-1~exp1")
    point = offer("7.3.4+deb13-cloud-amd64", "trixie-backports", "7.3.4-1~bpo13+1")
    assert catalog.choose(catalog.parse_name("7.3"), [candidate, point]) == point


def test_offers_are_images_with_headers_of_the_suite_itself() -> None:
    found = catalog._offers_in(MADISON, "trixie")
    assert [o.release for o in found] == ["6.12.94+deb13-rt-amd64", "6.12.107+deb13-cloud-amd64"]


def test_the_signed_image_is_preferred_to_the_unsigned_one() -> None:
    found = {o.release: o.image_package for o in catalog._offers_in(MADISON, "trixie")}
    assert found["6.12.107+deb13-cloud-amd64"] == "linux-image-6.12.107+deb13-cloud-amd64"
    assert found["6.12.94+deb13-rt-amd64"] == "linux-image-6.12.94+deb13-rt-amd64-unsigned"


def test_backports_are_not_confused_with_the_suite_that_they_are_for() -> None:
    found = catalog._offers_in(MADISON, "trixie-backports")
    assert [(o.release, o.suite) for o in found] == [("7.2.5+deb13-amd64", "trixie-backports")]


def test_the_home_of_a_series_is_asked_before_the_moving_suites() -> None:
    home, moving = catalog._groups(catalog.parse_name("6.12"))
    assert [suite.name for suite in home] == ["trixie"]
    assert "sid" in [suite.name for suite in moving]


def test_remembered_offers_are_suggested(cache: Path) -> None:
    listing = catalog._listing("bookworm", X86_64)
    listing.parent.mkdir(parents=True)
    catalog._write_listing(listing, (offer("6.1.0-50-cloud-amd64", "bookworm"),))
    assert "6.1.0-50-cloud-amd64" in str(catalog.unknown("6.1.0-51-cloud-amd64", []))


def test_every_suite_that_adds_to_another_says_which() -> None:
    names = {suite.name for suite in SUITES}
    assert {base_suite(suite.name) for suite in SUITES} <= names
    assert base_suite("trixie-backports") == "trixie"
    assert base_suite("experimental") == "sid"


@pytest.mark.parametrize(
    ("gcc", "glibc", "suite"),
    [(10, 0, "bullseye"), (12, 36, "bookworm"), (12, 38, "trixie"), (16, 0, "forky"), (8, 0, None)],
)
def test_the_oldest_fitting_suite_has_the_compiler(gcc: int, glibc: int, suite: str | None) -> None:
    found = suite_with(gcc, glibc)
    assert (found.name if found else None) == suite
