"""The prediction against real kernels: what insmod says is the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "data" / "loadcheck"
KERNELS = ("6.12", "6.1")
EVERY = 5
"""Of the many damages one in so many; the bench tries all."""


def tried() -> list[dict[str, Any]]:
    """Pairs of bench/loadcheck.py on these kernels."""
    words = [word for kernel in KERNELS for word in ("-k", kernel)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.loadcheck", "--json", "--every", str(EVERY), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_verdict_errno_and_log_are_foretold_for_every_pair() -> None:
    pairs = tried()
    known = [pair for pair in pairs if pair["foretold"] != "unknown"]
    assert not [pair for pair in known if pair["foretold"] != pair["happened"]]
    assert not [pair for pair in known if not pair["said"]]
    assert len(known) > max(150, len(pairs) * 0.95)
    counts = Counter(pair["happened"] for pair in known)
    assert counts.keys() >= {
        "EEXIST", "EINVAL", "EKEYREJECTED", "ENOENT", "ENOEXEC", "ENOMEM", "ok",
    }  # fmt: skip


def checked(lkm: Any, *words: str, code: int) -> list[dict[str, Any]]:
    done = lkm("check", "--json", *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    return found


def test_a_source_is_built_and_each_of_its_modules_checked(lkm: Any) -> None:
    # lc_percpu asks for too much, and lc_torn for what is not for it.
    found = {each["name"]: each for each in checked(lkm, str(MODULES), code=1)}
    refused = {name: each["errno"] for name, each in found.items() if each["verdict"] != "ok"}
    assert refused["lc_percpu"] == "ENOMEM"
    assert refused.keys() <= {"lc_percpu", "lc_torn"}
    assert found["lc_needs"]["loaded"] == ["crc_itu_t"]


def test_one_file_on_several_kernels(lkm: Any, tmp_path: Path) -> None:
    source = tmp_path / "fine.c"
    source.write_text('#include <linux/module.h>\nMODULE_LICENSE("GPL");\n')
    (own,) = checked(lkm, str(source), "-k", "6.12", code=0)
    path = own["path"]
    both = checked(lkm, path, "-k", "6.12", "-k", "6.1", code=1)
    assert [each["verdict"] for each in both] == ["ok", "refused"]
    (finding,) = both[1]["findings"]
    assert finding["what"].startswith("built for 6.12")


def test_people_are_told_what_why_and_what_to_do(lkm: Any, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ko"
    cut.write_bytes(b"\x7fELF" + bytes(60))
    done = lkm("check", str(cut))
    assert done.returncode == 1
    head, finding, line, hint = done.stdout.splitlines()
    assert head.startswith("cut.ko on 6.12")
    assert head.endswith(": refused, ENOEXEC")
    assert finding == "  not a module: it is no type, not relocatable (ET_REL)"
    assert line == "    Invalid ELF header type: 0 != 1"
    assert hint == "    hint: build it again, or copy it again"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["nothing.ko"], 2), (["nothing"], 2), (["x.ko", "-k", "1.2.3"], 2), ([], 2)],
)
def test_bad_input_is_bad_input(lkm: Any, words: list[str], code: int) -> None:
    assert lkm("check", *words).returncode == code
