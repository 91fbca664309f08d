"""What is read of a kernel's files, and what becomes of a path."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lkm import ko
from lkm.arch import X86_64
from lkm.cli.check import _names, _told
from lkm.cli.render import Style
from lkm.errors import UsageError
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.loadcheck import SymbolTable, Verdict, facts_of
from lkm.loadcheck.image import Image
from lkm.prediction import check_path

DATA = Path(__file__).parent.parent / "data" / "ko"
NEW = DATA / "everything-7.3.ko"
CONFIG = """\
CONFIG_MODULES=y
CONFIG_SMP=y
CONFIG_PREEMPT_BUILD=y
# CONFIG_MODVERSIONS is not set
CONFIG_MODULE_UNLOAD=y
CONFIG_MODULE_SIG_FORCE=y
CONFIG_LOCALVERSION="SMP=y"
"""
DEP = """\
kernel/a/everything.ko: kernel/b/needed-first.ko
kernel/b/needed-first.ko: kernel/b/base.ko
kernel/b/base.ko:
"""


def kernel_in(
    home: Path, *, config: str = CONFIG, modules: bool = True, release: str = "7.3-cloud-amd64"
) -> Kernel:
    """A kernel's files, with everything-7.3.ko for its only module."""
    home.mkdir(exist_ok=True)
    (home / "config").write_text(config)
    imports = [name for name in ko.read(NEW).imports if name != "everything_maybe"]
    lines = [f"0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL\t" for name in imports]
    (home / "Module.symvers").write_text("\n".join(lines) + "\n")
    if modules:
        (home / "kernel" / "a").mkdir(parents=True)
        (home / "kernel/a/everything.ko").write_bytes(NEW.read_bytes())
        (home / "modules.dep").write_text(DEP)
        (home / "modules.builtin").write_text("kernel/drivers/tty/hvc/hvc-console.ko\n")
        (home / "modules.builtin.modinfo").write_bytes(
            b"printk.parm=time:Show times\0tree.license=GPL\0"
        )
    return Kernel(
        release=release,
        arch=X86_64,
        provider="tree",
        image=home / "bzImage",
        build_dir=str(home),
        binds=((home, str(home)),),
        config=home / "config",
        toolchain=Toolchain("trixie", Path("/"), "gcc-14", "0"),
        identity="0",
        modules_dir=home if modules else None,
    )


def test_a_kernels_own_module_tells_its_version_magic_and_sizes(tmp_path: Path) -> None:
    facts = facts_of(kernel_in(tmp_path))
    image = Image(NEW.read_bytes(), (7, 3))
    assert facts.vermagic == "7.3-cloud-amd64 SMP preempt mod_unload "
    assert facts.module_size == image.sections[image.named(".gnu.linkonce.this_module")].size
    assert (facts.version, facts.machine, facts.signature) == ((7, 3, 0), 62, None)


@pytest.mark.parametrize(
    ("header", "release", "expected"),
    [
        ("#define LINUX_VERSION_CODE 396405\n", "6.12.0-50-amd64", (6, 12, 117)),
        (None, "6.12.107+deb13-amd64", (6, 12, 107)),
        (None, "7.4-rc1", (7, 4, 0)),
    ],
)
def test_the_version_is_the_headers_or_the_releases(
    tmp_path: Path, header: str | None, release: str, expected: tuple[int, ...]
) -> None:
    kernel = kernel_in(tmp_path, release=release)
    if header:
        path = tmp_path / "include/generated/uapi/linux/version.h"
        path.parent.mkdir(parents=True)
        path.write_text(header)
    assert facts_of(kernel).version == expected


def test_a_release_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="begins with no version"):
        facts_of(kernel_in(tmp_path, release="mine"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "mod_unload "),
        ("CONFIG_SMP=y\n", "SMP mod_unload "),
        ("CONFIG_PREEMPT=y\n", "preempt mod_unload "),
        ("CONFIG_PREEMPT_RT=y\nCONFIG_PREEMPT_BUILD=y\n", "preempt_rt mod_unload "),
        ("CONFIG_MODVERSIONS=y\nCONFIG_SMP=y\n", "SMP mod_unload modversions "),
    ],
)
def test_without_modules_the_configuration_tells_the_version_magic(
    tmp_path: Path, lines: str, words: str
) -> None:
    config = f"CONFIG_MODULES=y\nCONFIG_MODULE_UNLOAD=y\n{lines}"
    facts = facts_of(kernel_in(tmp_path, config=config, modules=False, release="6.6.1"))
    assert facts.vermagic == f"6.6.1 {words}"
    assert facts.module_size is None


def test_only_options_that_are_set_count(tmp_path: Path) -> None:
    facts = facts_of(kernel_in(tmp_path))
    assert facts.options == {"MODULES", "SMP", "PREEMPT_BUILD", "MODULE_UNLOAD", "MODULE_SIG_FORCE"}
    assert facts.sig_enforced


def test_debians_kernels_are_strict_about_versions(tmp_path: Path) -> None:
    assert facts_of(kernel_in(tmp_path / "a")).strict_versions
    assert not facts_of(kernel_in(tmp_path / "b", release="6.6.1-own")).strict_versions


def test_needs_come_first_and_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    facts = facts_of(kernel_in(tmp_path))
    assert facts.with_dependencies(["needed-first"]) == ("base", "needed_first")
    assert facts.with_dependencies(["nobody", "hvc_console"]) == ()


@pytest.mark.parametrize(
    ("name", "expected"), [("hvc_console", True), ("printk", True), ("everything", False)]
)
def test_what_is_built_in_is_known_by_name(tmp_path: Path, name: str, expected: bool) -> None:
    assert facts_of(kernel_in(tmp_path)).is_built_in(name) is expected


def test_a_kernel_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no modules"):
        facts_of(kernel_in(tmp_path, config="CONFIG_SMP=y\n"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0x0000002a\tf\tvmlinux\tEXPORT_SYMBOL\t", (42, None, False, "")),
        ("0x00000001\tf\tdrivers/a/b-c\tEXPORT_SYMBOL_GPL\tSPACE", (1, "b_c", True, "SPACE")),
        ("0x00000001\tf\tvmlinux\tEXPORT_SYMBOL_GPL", (1, None, True, "")),
    ],
)
def test_a_line_of_module_symvers_is_understood(
    tmp_path: Path, line: str, expected: tuple[int, str | None, bool, str]
) -> None:
    (tmp_path / "Module.symvers").write_text(f"0x0\tother\tvmlinux\tEXPORT_SYMBOL\t\n{line}\n")
    found = SymbolTable("6.6", tmp_path / "Module.symvers").get("f")
    assert found is not None
    assert (found.crc, found.module, found.gpl, found.namespace) == expected
    assert SymbolTable("6.6", tmp_path / "Module.symvers").get("g") is None


@pytest.mark.parametrize("content", [None, "no tab in here\n"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "Module.symvers"
    if content:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"Module\.symvers"):
        SymbolTable("6.6", path).get("f")


def test_a_ko_is_checked_as_it_is(tmp_path: Path) -> None:
    kernel = kernel_in(tmp_path / "k")
    kernel.config.write_text(CONFIG.replace("CONFIG_MODULE_SIG_FORCE=y\n", ""))
    (whole,) = check_path(NEW, kernel)
    assert (whole.path, whole.report.verdict) == (NEW, Verdict.OK)
    cut = tmp_path / "cut.ko"
    cut.write_bytes(NEW.read_bytes()[:1000])
    (damaged,) = check_path(cut, kernel)
    assert damaged.report.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [None]),
        (["6.1,7.3", "6.12", "6.1"], ["6.1", "7.3", "6.12"]),
        (["6.1,"], ["6.1"]),
        (["tree:/a,b"], ["tree:/a,b"]),
    ],
)
def test_kernels_are_named_with_commas_and_each_once(
    given: list[str] | None, expected: list[str | None]
) -> None:
    assert list(_names(given)) == expected


def test_a_module_cannot_drive_the_terminal(tmp_path: Path) -> None:
    kernel = kernel_in(tmp_path / "k")
    evil = tmp_path / "evil.ko"
    evil.write_bytes(NEW.read_bytes().replace(b"vermagic=7.3", b"vermagic=\x1b[2", 1))
    (checked,) = check_path(evil, kernel)
    text = "\n".join(_told(checked, Style(io.StringIO())))
    assert "\x1b" not in text
    assert r"\x1b[2" in text


def test_a_ko_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        check_path(tmp_path / "nothing.ko", kernel_in(tmp_path / "k"))
