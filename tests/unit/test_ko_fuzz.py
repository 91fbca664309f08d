"""No bytes make the reader raise anything but LkmError, or run long."""

from __future__ import annotations

import lzma
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm import ko
from lkm.errors import LkmError
from lkm.ko import compression, modinfo

DATA = Path(__file__).parent.parent / "data" / "ko"
OLD = (DATA / "everything-5.10.ko").read_bytes() + (DATA / "signature.bin").read_bytes()
NEW = (DATA / "everything-7.3.ko").read_bytes()


def survives(data: bytes) -> bool:
    """Whether the object is read; False for an LkmError, and anything else comes through."""
    try:
        module = ko.parse(compression.decompress(data, "x.ko", limit=1 << 20), "x.ko")
    except LkmError:
        return False
    assert ko.KernelObject.from_dict(module.to_dict()) == module
    modinfo.render(module, "x.ko")
    return True


def test_every_truncation_is_an_error() -> None:
    assert survives(NEW)
    assert not any(survives(NEW[:end]) for end in range(len(NEW)))


def test_a_signed_object_is_read_with_any_part_of_its_signature_gone() -> None:
    body = len(OLD) - (DATA / "signature.bin").stat().st_size
    assert all(survives(OLD[:end]) for end in range(body, len(OLD)))


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_give_facts_or_an_error(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = set()
    for _ in range(500):
        data = bytearray(OLD if seed % 2 else NEW)
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256))
            )
        outcomes.add(survives(bytes(data)))
    assert outcomes == {True, False}


@pytest.mark.parametrize("seed", range(2))
def test_changed_section_headers_give_facts_or_an_error(seed: int) -> None:
    rng = random.Random(seed)
    whole = OLD if seed else NEW
    table, count = struct.unpack_from("<Q", whole, 40)[0], struct.unpack_from("<H", whole, 60)[0]
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3))):
            at = table + rng.randrange(count) * 64 + rng.choice((0, 4, 8, 24, 32, 40, 44))
            value = rng.choice(
                (0, 1, 2, 8, rng.randrange(64), rng.randrange(len(data)), 0xFFFFFFFF)
            )
            struct.pack_into("<I", data, at, value)
        survives(bytes(data))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"", NEW[:64], b"\x1f\x8b", b"\x28\xb5\x2f\xfd"]))
def test_arbitrary_bytes_are_refused(data: bytes, start: bytes) -> None:
    assert not survives(start + data)


FINDS = sorted((DATA.parent / "ko_fuzz").glob("*.xz"))
PROGRAM = """
import lzma, resource, sys
from pathlib import Path
from lkm import ko
from lkm.errors import LkmError
from lkm.ko import compression, modinfo

data = lzma.decompress(Path(sys.argv[1]).read_bytes())
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    module = ko.parse(compression.decompress(data, "x.ko"), "x.ko")
    modinfo.render(module, "x.ko")
    ko.describe(module)
except LkmError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
"""Reads a find, and prints by how many KiB its memory grew."""


def test_the_finds_are_there() -> None:
    assert len(FINDS) >= 6


@pytest.mark.parametrize("path", FINDS, ids=[path.stem for path in FINDS])
def test_what_fuzzing_found_is_read_in_200_mb(path: Path) -> None:
    assert len(lzma.decompress(path.read_bytes())) < 32 << 20
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200 << 10
