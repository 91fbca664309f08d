from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm import sandbox
from lkm.arch import X86_64
from lkm.errors import HostError, UsageError
from lkm.kernels import apt, catalog, debug, debug_build, kconfig, record, selection
from lkm.kernels.catalog import Wanted
from lkm.kernels.kernel import Toolchain
from lkm.progress import SILENT

FRAGMENT = Path(debug.__file__).with_name("debug.config").read_text()


@pytest.mark.parametrize(
    ("name", "series", "release"),
    [
        ("debug", "6.12", None),
        ("6.1+debug", "6.1", None),
        ("6.12.117+debug", "6.12.117", None),
        ("6.12.117-lkm-debug", None, "6.12.117-lkm-debug"),
    ],
)
def test_the_names_of_debug_kernels(name: str, series: str | None, release: str | None) -> None:
    wanted = catalog.parse_name(name)
    assert (wanted.provider, wanted.series, wanted.release) == ("debug", series, release)


def test_a_debug_kernel_among_others_stays_as_it_was_written() -> None:
    text = "host,6.1+debug,debug,6.12.117-lkm-debug"
    assert selection.select(text) == tuple(text.split(","))


@pytest.mark.parametrize("name", ["debug+6.12", "6.12-debug", "6+debug", "+debug", "debug:trixie"])
def test_what_is_no_name_of_a_debug_kernel(name: str) -> None:
    with pytest.raises(UsageError, match="no kernel is called"):
        catalog.parse_name(name)


def test_a_series_does_not_mean_its_debug_kernel_and_its_debug_kernel_nothing_else() -> None:
    built = _record("6.12.117-lkm-debug", "debug")
    assert catalog.parse_name("debug").fits(built)
    assert catalog.parse_name("6.12.117-lkm-debug").fits(built)
    assert not catalog.parse_name("6.12").fits(built)
    assert not catalog.parse_name("6.1+debug").fits(built)
    assert not catalog.parse_name("debug").fits(_record("6.12.117+deb13-cloud-amd64", "cloud"))


def _record(release: str, flavour: str) -> record.Record:
    return record.Record(
        release=release, arch="x86_64", suite="trixie", flavour=flavour, version="6.12.117-1", image="i",
        config="c", system_map=None, modules_dir="m", build_dir="/b", binds=(), toolchain_suite="trixie",
        cc="gcc-14", identity="00", disk_bytes=1, packages=(), provider="debug",
    )  # fmt: skip


def test_a_record_of_before_there_were_debug_kernels_is_one_of_debian(tmp_path: Path) -> None:
    home = tmp_path / "6.12.117+deb13-cloud-amd64"
    home.mkdir()
    record.write(home, _record(home.name, "cloud"))
    for name in ("i", "c", "m"):
        (home / name).touch()
    fields = json.loads((home / "meta.json").read_text())
    del fields["provider"]
    (home / "meta.json").write_text(json.dumps(fields))
    read = record.read(home)
    assert isinstance(read, record.Record)
    assert read.provider == "debian"


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("6.12.117-1", "6.12.117-lkm-debug"),
        ("6.1.158-1~deb11u1", "6.1.158-lkm-debug"),
        ("7.3~rc2-1~exp1", "7.3.0-rc2-lkm-debug"),
        ("7.0-1", "7.0.0-lkm-debug"),
        ("7.3.4-1~bpo13+1", "7.3.4-lkm-debug"),
    ],
)
def test_a_source_says_which_release_it_becomes(version: str, release: str) -> None:
    assert debug.release_of(version) == release


def test_a_version_that_has_no_numbers_is_refused() -> None:
    with pytest.raises(HostError, match="cannot read: next-20261124"):
        debug.release_of("next-20261124")


def test_the_archive_has_the_newest_of_a_series_alone() -> None:
    package = apt.Package("linux-source-6.12", "6.12.117-1", "f", 1, "d")
    source = debug.Source(package, "trixie", "6.12.117-lkm-debug")
    for name in ("debug", "6.12+debug", "6.12.117+debug", "6.12.117-lkm-debug"):
        assert debug._fitting(source, catalog.parse_name(name)) is source
    for name in ("6.12.1+debug", "6.12.11-lkm-debug"):
        with pytest.raises(UsageError, match="and not of") as caught:
            debug._fitting(source, catalog.parse_name(name))
        assert caught.value.hint == "the newest: --kernel 6.12+debug"


def test_a_series_without_a_source_is_the_callers_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    world = apt.World("trixie", X86_64, Path("/nowhere"), "http://mirror.example/debian")
    monkeypatch.setattr(apt, "world", lambda *_: world)
    monkeypatch.setattr(apt, "refresh", lambda *_, **__: True)
    monkeypatch.setattr(apt, "cache", lambda *_: "")
    with pytest.raises(UsageError, match=r"no package linux-source-6\.3") as caught:
        debug._find(Wanted("6.3+debug", "debug", series="6.3"), X86_64, SILENT)
    assert caught.value.hint == "the debug kernel of Debian stable: --kernel debug"


def test_what_kconfig_drops_is_named() -> None:
    asked = 'CONFIG_KASAN=y\n# CONFIG_SLUB_TINY is not set\nCONFIG_NR_CPUS=4\nCONFIG_NAME="a"\n'
    final = 'CONFIG_SLUB_TINY=y\nCONFIG_NR_CPUS=1\nCONFIG_NAME="a"\n# CONFIG_OTHER is not set\n'
    rows = [str(each) for each in kconfig.dropped(asked, final)]
    assert rows == [
        "CONFIG_KASAN=y: dropped: its dependencies are not met, or this kernel has no such option",
        "CONFIG_NR_CPUS=4: it is 1",
        "CONFIG_SLUB_TINY=n: it is y",
    ]


@pytest.mark.parametrize(
    "final",
    ["CONFIG_A=y\n# CONFIG_B is not set\n", "CONFIG_C=m\nCONFIG_A=y\n"],
    ids=["off", "unknown"],
)
def test_an_option_that_is_to_be_off_may_be_unknown(final: str) -> None:
    assert kconfig.dropped("CONFIG_A=y\n# CONFIG_B is not set\n", final) == ()


def test_of_two_lines_about_an_option_the_last_counts() -> None:
    (lost,) = kconfig.dropped("CONFIG_A=n\nCONFIG_A=y\n", "# CONFIG_A is not set\n")
    assert (lost.name, lost.asked, lost.got) == ("A", "y", "n")


@pytest.mark.parametrize(
    ("release", "kept"), [("6.1.158", "old"), ("6.12.117", "new"), ("6.5.0-rc1", "old")]
)
def test_a_line_of_a_fragment_can_be_for_some_series(release: str, kept: str) -> None:
    text = "CONFIG_BOTH=y\nCONFIG_X=new  # since 6.6\nCONFIG_X=old  # before 6.6\n"
    assert kconfig.fragment_for(release, text) == f"CONFIG_BOTH=y\nCONFIG_X={kept}\n"


def test_the_debug_kernels_fragment_asks_for_each_option_once() -> None:
    for release in ("5.10.0", "6.1.0", "6.12.0", "7.3.0"):
        text = kconfig.fragment_for(release, FRAGMENT)
        lines = [
            line
            for line in text.splitlines()
            if (line and not line.startswith("# ")) or " is not set" in line
        ]
        names = [line.removeprefix("# ").partition("=")[0].partition(" ")[0] for line in lines]
        assert len(names) == len(set(names))
        assert all(name.startswith("CONFIG_") for name in names)


class Told:
    def __init__(self) -> None:
        self.amounts: list[tuple[float, float | None, str]] = []

    def step(self, text: str) -> None:
        pass

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        self.amounts.append((done, total, unit))


def test_progress_counts_objects_and_estimates_the_rest() -> None:
    told = Told()
    count = debug_build.Count(told, lambda: 100.0 + count.done)
    for number in range(100):
        count.line(f"  CC      kernel/{number}.o")
        count.line("  AR      kernel/built-in.a")
    count.line("  CC [M]  drivers/x.mod.o")
    assert told.amounts[48] == (49, debug_build.OBJECTS, "objects")
    done, total, unit = told.amounts[-1]
    assert (done, total) == (100, debug_build.OBJECTS)
    assert unit == f"objects, {(debug_build.OBJECTS - 100) / 60:.0f} min left"


def test_what_an_interrupted_build_made_counts_as_done_and_not_as_quick() -> None:
    told = Told()
    count = debug_build.Count(told, lambda: 100.0 + count.done, before=debug_build.OBJECTS - 200)
    for number in range(80):
        count.line(f"  CC      kernel/{number}.o")
    assert told.amounts[-1] == (
        debug_build.OBJECTS - 120, debug_build.OBJECTS, "objects, 2 min left"
    )  # fmt: skip


def test_more_objects_than_expected_are_no_more_than_all() -> None:
    told = Told()
    count = debug_build.Count(told, lambda: 1.0, before=debug_build.OBJECTS, done=55)
    count.line("  AS      arch/x86/entry/entry_64.o")
    total = debug_build.OBJECTS + 56
    assert told.amounts == [(total, total, "objects, a minute left")]


def _work(tmp_path: Path) -> debug_build.Work:
    tools = Toolchain("trixie", tmp_path, "gcc-14", "00")
    return debug_build.Work(tmp_path, tools, tmp_path, tmp_path / "log", "6.12.1-lkm-debug")


def test_a_full_disk_is_told_from_a_compiler_error(tmp_path: Path) -> None:
    work = _work(tmp_path)
    full = [
        "  CC      a.o",
        "a.s: Fatal error: can't close a.o: No space left on device",
        "make: *** [a.o]",
    ]
    assert "no space left" in str(debug_build._failure(work, "building it", full))


def test_a_build_that_fails_says_why_and_where_the_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "check_usable", lambda _: None)
    work = _work(tmp_path)
    said = ["  CC      a.o", "a.c:1: error: no", "make[1]: *** [a.o] Error 1", "  CC      b.o"]
    error = debug_build._failure(work, "building it", said)
    assert error.evidence == ("a.c:1: error: no", "make[1]: *** [a.o] Error 1")
    assert error.hint == f"the whole log: {tmp_path / 'log'}"


def test_an_interrupted_build_is_kept_and_a_failed_one_is_not(tmp_path: Path) -> None:
    place = tmp_path / "6.12.117-lkm-debug-0011"
    for failure, kept in ((KeyboardInterrupt, True), (HostError, False)):
        (place / "tree").mkdir(parents=True, exist_ok=True)
        with pytest.raises(failure), debug._own(place):
            raise failure("it")
        assert place.exists() is kept


def test_a_build_clears_away_what_another_version_left(tmp_path: Path) -> None:
    (tmp_path / "6.12.95-lkm-debug-0011/tree").mkdir(parents=True)
    place = tmp_path / "6.12.117-lkm-debug-0022"
    with debug._own(place):
        place.mkdir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_fragment_only_remarks_makes_no_other_kernel() -> None:
    asked = debug._asked("6.12.117-lkm-debug")
    assert "CONFIG_KASAN=y" in asked.splitlines()
    assert "CONFIG_SLUB=y" not in asked.splitlines()
    assert "CONFIG_SLUB=y" in debug._asked("6.1.176-lkm-debug").splitlines()
    assert "# CONFIG_SLUB_TINY is not set" in asked.splitlines()
    assert not [line for line in asked.splitlines() if "CONFIG_" not in line]
