"""What this computer may lack: a tool, the network, space, a KVM that works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lkm.paths import cache_dir
from lkm.vm.accel import TRIAL_LIMIT

pytestmark = pytest.mark.vm

HELLO = str(Path(__file__).parents[2] / "examples" / "hello")
TOOLS = "/usr/bin:/bin:/usr/sbin:/sbin"


@pytest.fixture
def linked_cache(tmp_path: Path) -> Path:
    """A cache with the kernels that are here, and nothing frozen."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("kernels", "roots", "agents", "accel.json"):
        if (cache_dir() / name).exists():
            (cache / name).symlink_to(cache_dir() / name)
    return cache


def without(tool: str, into: Path) -> Path:
    """A directory with every program of this computer but one."""
    into.mkdir()
    for directory in TOOLS.split(":"):
        for path in Path(directory).iterdir():
            if path.name != tool and not (into / path.name).exists():
                (into / path.name).symlink_to(path)
    return into


@pytest.mark.parametrize(
    ("tool", "package"), [("qemu-system-x86_64", "qemu-system-x86"), ("bwrap", "bubblewrap")]
)
def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, runtime_dir: Path, linked_cache: Path, tool: str, package: str
) -> None:
    path = without(tool, tmp_path / "bin")
    source = tmp_path / "hello"
    shutil.copytree(HELLO, source, ignore=shutil.ignore_patterns("build"))
    program = (
        "import sys; from lkm import proc; proc.SYSTEM_PATH = ''; from lkm.cli import main;"
        " sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(source)],
        env={**os.environ, "PATH": str(path), "LKM_CACHE_DIR": str(linked_cache)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert f"{tool} is not installed" in done.stderr
    assert f"apt-get install {package}" in done.stderr


def test_an_empty_store_without_network_says_so(tmp_path: Path, runtime_dir: Path) -> None:
    words = [sys.executable, "-m", "lkm", "run", HELLO]
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--", *words],
        env={**os.environ, "LKM_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "hint: " in done.stderr
    assert not list((tmp_path / "cache").glob("kernels/[!.]*"))


def test_a_disk_that_cannot_hold_the_frozen_machine(
    tmp_path: Path, runtime_dir: Path, linked_cache: Path
) -> None:
    small = linked_cache / "snapshots"
    small.mkdir()
    words = [sys.executable, "-m", "lkm", "run", HELLO]
    confine = [
        "bwrap",
        "--dev-bind",
        "/",
        "/",
        "--size",
        str(24 << 20),
        "--tmpfs",
        str(small),
        "--",
    ]
    done = subprocess.run(
        [*confine, *words],
        env={**os.environ, "LKM_CACHE_DIR": str(linked_cache)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode in (3, 5), done.stderr
    assert "hint: " in done.stderr or "boot" in done.stderr
    again = subprocess.run(
        words,
        env={**os.environ, "LKM_CACHE_DIR": str(linked_cache)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert again.returncode == 0, again.stderr


def test_an_accelerator_that_does_not_work_is_tried_once_and_with_a_limit(
    lkm: Any, linked_cache: Path
) -> None:
    (linked_cache / "accel.json").unlink(missing_ok=True)
    env = {"LKM_CACHE_DIR": str(linked_cache)}
    started = time.monotonic()
    done = lkm("run", HELLO, env=env, timeout=200)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < TRIAL_LIMIT + 100
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert "trying /dev/kvm" in done.stderr
        assert json.loads((linked_cache / "accel.json").read_text())["accel"] in ("kvm", "tcg")
    assert "trying /dev/kvm" not in lkm("run", HELLO, env=env).stderr


def test_a_wrong_accelerator_is_bad_input(lkm: Any) -> None:
    done = lkm("run", HELLO, env={"LKM_ACCEL": "warp"})
    assert done.returncode == 2
    assert "LKM_ACCEL" in done.stderr


def test_a_cache_that_is_not_ours_is_named(lkm: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = lkm("run", HELLO, env={"LKM_CACHE_DIR": str(tmp_path / "file" / "cache")})
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_two_runs_at_once_on_an_empty_store_fetch_once(tmp_path: Path, runtime_dir: Path) -> None:
    words = [sys.executable, "-m", "lkm", "run", HELLO]
    env = {**os.environ, "LKM_CACHE_DIR": str(tmp_path / "cache"), "LKM_ACCEL": "tcg"}
    processes = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("hello: ok" in out for out, _ in said)
    assert any("waiting for another lkm" in err for _, err in said)
    kernels = [path.name for path in (tmp_path / "cache" / "kernels").glob("[!.]*")]
    assert len(kernels) == 1
