"""What the values of a dkms.conf mean: which modules, which commands, for which kernels."""

from __future__ import annotations

import pytest

from lkm.kbuild.dkms.conf import BuiltModule, Values, faults, interpret, values

RELEASE = "6.1.0-50-cloud-amd64"
GOOD = {
    "PACKAGE_NAME": {0: "pack"},
    "PACKAGE_VERSION": {0: "1.0"},
    "BUILT_MODULE_NAME": {0: "one"},
    "DEST_MODULE_LOCATION": {0: "/extra"},
}


def with_(**more: str | dict[int, str]) -> Values:
    arrays = {name: {0: value} if isinstance(value, str) else value for name, value in more.items()}
    return Values({**GOOD, **arrays})


def excluded(release: str = RELEASE, **more: str | dict[int, str]) -> str | None:
    return interpret(with_(**more), release, "x86_64").excluded


def records(*fields: str) -> bytes:
    return "".join(f"{field}\0" for field in ("started", "", "", *fields)).encode()


def test_records_become_values() -> None:
    found = values(
        records("MAKE", "0", "make\nall", "MAKE", "2", "", "set", "0", "CONFIG_A", "end", "", "")
    )
    assert found == Values({"MAKE": {0: "make\nall", 2: ""}}, {"set": frozenset({"CONFIG_A"})})


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"bwrap: no",
        records(),
        records("MAKE", "0", "make"),
        records("MAKE", "0", "end", "", ""),
        records("MAKE", "x", "make", "end", "", ""),
        records("MAKE", "-1", "make", "end", "", ""),
        records("MAKE", "0", "make", "end", "", "") + b"more",
        records("MAKE", "9999999", "make", "end", "", ""),
    ],
)
def test_output_that_is_not_whole_or_not_of_the_form_is_none(output: bytes) -> None:
    assert values(output) is None


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"PACKAGE_NAME": ""}, "it has no PACKAGE_NAME"),
        ({"PACKAGE_VERSION": ""}, "it has no PACKAGE_VERSION"),
        ({"PACKAGE_NAME": "../x"}, "its PACKAGE_NAME '../x' cannot be a directory's name"),
        ({"BUILT_MODULE_NAME": "one.ko"}, "its BUILT_MODULE_NAME[0] 'one.ko' ends in .o or .ko"),
        ({"DEST_MODULE_NAME": "two.o"}, "its DEST_MODULE_NAME[0] 'two.o' ends in .o or .ko"),
        ({"DEST_MODULE_NAME": "/a"}, "its DEST_MODULE_NAME[0] '/a' cannot be a file's name"),
        ({"DEST_MODULE_LOCATION": ""}, "it has no DEST_MODULE_LOCATION[0]"),
        ({"DEST_MODULE_LOCATION": "/lib"}, "'/lib' does not begin with /kernel, /updates or /extra"),
        ({"BUILT_MODULE_NAME": {1: "two"}}, "it has no BUILT_MODULE_NAME[0]"),
        ({"BUILT_MODULE_NAME": {0: "a", 1: "a"}}, "it has BUILT_MODULE_NAME 'a' twice"),
        ({"DEST_MODULE_NAME": {0: "a", 1: "a"}}, "it has DEST_MODULE_NAME 'a' twice"),
    ],
)  # fmt: skip
def test_what_dkms_calls_a_bad_file_is_named(more: dict[str, str], fault: str) -> None:
    assert any(fault in each for each in faults(with_(**more)))


def test_a_good_file_has_no_faults() -> None:
    assert faults(Values(GOOD)) == []


def test_the_only_module_is_named_after_the_package_where_it_has_no_name() -> None:
    found = with_(BUILT_MODULE_NAME={})
    assert faults(found) == []
    assert interpret(found, RELEASE, "x86_64").modules == (BuiltModule("pack.ko", "pack.ko"),)


def test_modules_have_places_and_other_names_where_they_are_installed() -> None:
    found = with_(
        BUILT_MODULE_NAME={0: "a", 1: "b"},
        BUILT_MODULE_LOCATION={0: "src/", 1: "lib"},
        DEST_MODULE_NAME={1: "b_new"},
        DEST_MODULE_LOCATION={0: "/kernel/x", 1: "/updates"},
    )
    assert faults(found) == []
    assert interpret(found, RELEASE, "x86_64").modules == (
        BuiltModule("src/a.ko", "a.ko"),
        BuiltModule("lib/b.ko", "b_new.ko"),
    )


@pytest.mark.parametrize(
    ("more", "command"),
    [
        ({}, None),
        ({"MAKE": "make a"}, "make a"),
        ({"MAKE": {0: "make a", 1: "make b"}}, "make a"),
        ({"MAKE": {0: "make a"}, "MAKE_MATCH": {0: "^5"}}, None),
        ({"MAKE": {0: "make a"}, "MAKE_MATCH": {0: "^6"}, "match-make": {0: "^6"}}, "make a"),
        (
            {
                "MAKE": {0: "make a", 1: "make b", 2: "make c"},
                "MAKE_MATCH": {1: "^6", 2: "6"},
                "match-make": {1: "^6", 2: "6"},
            },
            "make c",
        ),
        (
            {"MAKE": {0: "make a", 1: ""}, "MAKE_MATCH": {1: "^6"}, "match-make": {1: "^6"}},
            "make a",
        ),
    ],
)
def test_the_last_make_that_matches_is_used(
    more: dict[str, str | dict[int, str]], command: str | None
) -> None:
    assert interpret(with_(**more), RELEASE, "x86_64").make == command


def test_patches_are_for_every_kernel_or_for_those_that_match() -> None:
    found = with_(
        PATCH={0: "all.patch", 1: "new.patch", 2: "old.patch"},
        PATCH_MATCH={1: "^6", 2: "^5"},
        **{"match-patch": {1: "^6"}},
    )
    assert interpret(found, RELEASE, "x86_64").patches == ("all.patch", "new.patch")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, None),
        ({"BUILD_EXCLUSIVE_KERNEL": "^6", "match-kernel": "^6"}, None),
        ({"BUILD_EXCLUSIVE_KERNEL": "^5"}, f"BUILD_EXCLUSIVE_KERNEL='^5' does not match {RELEASE}"),
        ({"BUILD_EXCLUSIVE_KERNEL_MIN": "6.1"}, None),
        ({"BUILD_EXCLUSIVE_KERNEL_MIN": "4"}, None),
        ({"BUILD_EXCLUSIVE_KERNEL_MIN": "6.12"}, f"KERNEL_MIN=6.12: {RELEASE} is older"),
        ({"BUILD_EXCLUSIVE_KERNEL_MAX": "6.12"}, None),
        ({"BUILD_EXCLUSIVE_KERNEL_MAX": "6.1"}, f"KERNEL_MAX=6.1: {RELEASE} is newer"),
        ({"OBSOLETE_BY": "5.19"}, f"OBSOLETE_BY=5.19: {RELEASE} is newer"),
        ({"OBSOLETE_BY": "5.19", "BUILD_EXCLUSIVE_KERNEL_MAX": "7"}, None),
        ({"BUILD_EXCLUSIVE_ARCH": "x86", "match-arch": "x86"}, None),
        ({"BUILD_EXCLUSIVE_ARCH": "^arm"}, "BUILD_EXCLUSIVE_ARCH='^arm' does not match x86_64"),
        ({"build_exclude": "yes"}, "its dkms.conf sets build_exclude"),
    ],
)
def test_a_kernel_is_excluded_with_the_reason(more: dict[str, str], reason: str | None) -> None:
    found = excluded(**more)
    assert found == reason if reason is None else found and found.endswith(reason)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("CONFIG_A", None),
        ("CONFIG_A !CONFIG_B", None),
        ("CONFIG_B", "BUILD_EXCLUSIVE_CONFIG=CONFIG_B: CONFIG_B is not set"),
        ("CONFIG_B !CONFIG_A", "BUILD_EXCLUSIVE_CONFIG=CONFIG_B: CONFIG_B is not set"),
        ("CONFIG_A !CONFIG_C", "BUILD_EXCLUSIVE_CONFIG=!CONFIG_C: CONFIG_C is set"),
    ],
)
def test_a_kernel_is_excluded_by_its_configuration(wanted: str, reason: str | None) -> None:
    present = frozenset({"CONFIG_A", "!CONFIG_C"})
    found = Values({**GOOD, "BUILD_EXCLUSIVE_CONFIG": {0: wanted}}, {"set": present})
    assert interpret(found, RELEASE, "x86_64").excluded == reason


@pytest.mark.parametrize(
    ("version", "used"), [("1.0", "1.0"), ("0~git+2", "0~git+2"), ("#VERSION#", "0"), ("a/b", "0")]
)
def test_a_version_that_cannot_be_a_directory_is_none(version: str, used: str) -> None:
    assert interpret(with_(PACKAGE_VERSION=version), RELEASE, "x86_64").version == used
