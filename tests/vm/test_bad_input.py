"""Input that no kernel would take: what lkm can see is refused before, the rest is judged by the kernel."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

EXAMPLES = Path(__file__).parents[2] / "examples"
EM_AARCH64 = 183


@pytest.fixture
def hello(lkm: Any, tmp_path: Path) -> Path:
    """A copy of hello.ko, built for the default kernel."""
    built = json.loads(lkm("build", "--json", str(EXAMPLES / "hello")).stdout)
    return Path(shutil.copy(built["objects"][0]["path"], tmp_path / "hello.ko"))


def judged(lkm: Any, path: Path) -> dict[str, Any]:
    done = lkm("run", "--json", str(path))
    assert done.returncode == 1, done.stdout + done.stderr
    (module,) = json.loads(done.stdout)["modules"]
    assert isinstance(module, dict)
    return module


def test_a_ko_for_another_kernel_is_judged_by_the_kernel(lkm: Any, hello: Path) -> None:
    # With modversions the release itself is not compared, the rest is (same_magic(), kernel/module/version.c).
    image = hello.read_bytes()
    at = image.index(b" SMP ", image.index(b"vermagic="))
    hello.write_bytes(image[:at] + b" UP  " + image[at + 5 :])
    module = judged(lkm, hello)
    assert (module["verdict"], module["errno"]) == ("load-failed", "ENOEXEC")
    assert "version magic" in module["reason"]


def test_a_ko_for_another_architecture_is_judged_by_the_kernel(lkm: Any, hello: Path) -> None:
    image = bytearray(hello.read_bytes())
    struct.pack_into("<H", image, 18, EM_AARCH64)  # e_machine, elf(5)
    hello.write_bytes(image)
    module = judged(lkm, hello)
    assert (module["verdict"], module["errno"]) == ("load-failed", "ENOEXEC")


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF", None], ids=["empty", "text", "head", "half"]
)
def test_what_is_no_kernel_object_is_refused_before_a_machine_starts(
    lkm: Any, hello: Path, content: bytes | None
) -> None:
    whole = hello.read_bytes()
    hello.write_bytes(whole[: len(whole) // 2] if content is None else content)
    done = lkm("run", str(hello))
    assert done.returncode == 2
    assert "hello.ko" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("intparm=1", "did you mean intparam?"),
        ("intparam=x", "takes a whole number"),
        ("intparam=2147483648", "2147483647"),
        ("array=1,2,3,4,5,6,7,8,9", "8"),
        ("filepath=" + "x" * 128, "127"),
        ("=1", "name=value"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_type_and_limits(
    lkm: Any, word: str, said: str
) -> None:
    done = lkm("run", str(EXAMPLES / "getargs"), word)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_directory_without_a_module_is_bad_input(lkm: Any, tmp_path: Path) -> None:
    assert lkm("run", str(tmp_path)).returncode == 2
    (tmp_path / "Makefile").write_text("all:\n\ttrue\n")
    done = lkm("run", str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "obj-m" in done.stderr


def test_a_makefile_that_fails_is_a_failed_build(lkm: Any, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("obj-m := x.o\n$(error not today)\n")
    (tmp_path / "x.c").write_text("")
    done = lkm("run", str(tmp_path))
    assert done.returncode == 4
    assert "not today" in done.stdout + done.stderr


def test_a_kernel_that_does_not_exist_is_bad_input(lkm: Any) -> None:
    for name in ("2.4", "debian:nope", "tree:/nowhere", "6.12.999+nope"):
        done = lkm("run", str(EXAMPLES / "hello"), "-k", name)
        assert done.returncode == 2, done.stderr
        assert "hint: " in done.stderr
