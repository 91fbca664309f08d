"""The text of `lkm modinfo` is that of kmod's modinfo: on a kernel's own modules, and on odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bench.modinfo_kmod import FORMS, differing, kmods, modules_of

from lkm import ko
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.ko.elf import read_elf

pytestmark = pytest.mark.vm

DATA = Path(__file__).parents[1] / "data" / "ko"
WORDS = {flags: " ".join(flags) or "no flags" for flags in FORMS}
EACH_FORM = pytest.mark.parametrize("flags", WORDS, ids=WORDS.values())


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return store.get()


@EACH_FORM
def test_a_sample_of_the_kernels_own_modules_is_shown_as_kmod_shows_it(
    kernel: Kernel, flags: Sequence[str]
) -> None:
    home, files = modules_of(kernel)
    sample = files[:: len(files) // 150]
    assert len(sample) >= 150
    assert kmods(kernel.toolchain, home, sample, flags)
    assert not differing(kernel.toolchain, home, sample, flags)


@EACH_FORM
def test_signed_and_unsigned_objects_are_shown_as_kmod_shows_them(
    kernel: Kernel, tmp_path: Path, flags: Sequence[str]
) -> None:
    files = []
    for series in ("5.10", "7.3"):
        for tail in (None, *sorted(DATA.glob("signature*.bin"))):
            file = tmp_path / f"{series}-{tail.stem if tail else 'unsigned'}.ko"
            image = (DATA / f"everything-{series}.ko").read_bytes()
            file.write_bytes(image + (tail.read_bytes() if tail else b""))
            files.append(file)
    assert len(files) == 10
    assert not differing(kernel.toolchain, tmp_path, files, flags)


ODD: dict[str, bytes] = {
    "nothing": b"",
    "latin-1": b"author=Jos\xe9\0",
    "new line": b"description=one\ntwo\0",
    "no equals sign": b"license\0",
    "no key": b"=value\0",
    "long key": b"a_key_of_18_chars_=x\0",
    "key of 15": b"fifteen_letters=x\0",
    "key of 16": b"sixteen__letters=x\0",
    "many equals signs": b"a=b=c\0",
    "padding between": b"\0\0a=1\0\0\0b=2\0",
    "type alone": b"parmtype=p:int\0",
    "description alone": b"parm=p:words: many\0",
    "description of none": b"parm=p:\0parmtype=p:\0",
    "described twice": b"parm=p:one\0parm=p:two\0parmtype=p:int\0parmtype=p:uint\0",
    "no colon": b"parm=p\0parmtype=q\0license=GPL\0",
    "no name": b"parm=:words\0",
}
"""What a module's .modinfo may hold; the rest of the section is zeros."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file for each of ODD."""
    home = tmp_path_factory.mktemp("odd")
    image = (DATA / "everything-7.3.ko").read_bytes()
    section = read_elf(image, "x.ko").section(".modinfo")
    assert section
    rest = image[section.offset + section.size :]
    files = []
    for name, content in ODD.items():
        file = home / f"{name.replace(' ', '-')}.ko"
        file.write_bytes(image[: section.offset] + content.ljust(section.size, b"\0") + rest)
        files.append(file)
    return files


@EACH_FORM
def test_odd_modinfo_is_shown_as_kmod_shows_it(
    kernel: Kernel, odd: list[Path], flags: Sequence[str]
) -> None:
    assert not differing(kernel.toolchain, odd[0].parent, odd, flags)


def test_the_file_that_differs_is_found_among_others(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.ko").write_bytes((DATA / "everything-7.3.ko").read_bytes())

    def misread(path: Path) -> ko.KernelObject:
        module = ko.read(path)
        return replace(module, modinfo=module.modinfo[1:]) if path.name == "d.ko" else module

    monkeypatch.setattr("bench.modinfo_kmod.facts_of", misread)
    files = sorted(tmp_path.iterdir())
    assert differing(kernel.toolchain, tmp_path, files, ()) == [tmp_path / "d.ko"]
