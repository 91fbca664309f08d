"""A matrix on a Dask cluster of this computer: a scheduler, two workers, and one of them killed in mid-run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.paths import cache_dir

pytestmark = pytest.mark.vm

MODULES = Path(__file__).parents[1] / "data" / "modules"
HELLO = Path(__file__).parents[2] / "examples" / "hello"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a part of Dask as a process of its own, which is ended with the test."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            env={**os.environ, "LKM_CACHE_DIR": str(store(tmp_path)), **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()


def store(tmp_path: Path) -> Path:
    """A store with the kernels and frozen machines of this one; what the workers make stays in it."""
    cache = tmp_path / "worker-cache"
    if not cache.is_dir():
        cache.mkdir()
        for name in ("kernels", "roots", "agents", "snapshots", "accel.json"):
            if (cache_dir() / name).exists():
                (cache / name).symlink_to(cache_dir() / name)
    return cache


@pytest.fixture
def address(start: Start, tmp_path: Path) -> str:
    """The address of a scheduler without workers."""
    file = tmp_path / "scheduler.json"
    start(
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    )
    deadline = time.monotonic() + 60
    while not file.exists() or not file.read_text().endswith("}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return str(json.loads(file.read_text())["address"])


def worker(start: Start, address: str, name: str, **env: str) -> subprocess.Popen[str]:
    words = ("worker", address, "--no-nanny", "--no-dashboard", "--nthreads", "1", "--name", name)
    return start(*words, LKM_TEST_MARK=name, **env)


def has_qemu(name: str) -> bool:
    """Whether a worker's cell has come to its machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = f"LKM_TEST_MARK={name}".encode() in (entry / "environ").read_bytes()
                if marked and b"qemu" in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


def test_a_worker_that_is_killed_in_mid_run_loses_nothing(
    start: Start, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = {name: worker(start, address, f"{tmp_path}-{name}") for name in ("a", "b")}
    releases = [each.name for each in (store(tmp_path) / "kernels").iterdir()]
    # The client has none of the files that the workers have, but the sources and package lists.
    client_dir = tmp_path / "client"
    client_dir.mkdir()
    (client_dir / "apt").symlink_to(cache_dir() / "apt")
    monkeypatch.setenv("LKM_CACHE_DIR", str(client_dir))
    kernels = [
        next(r for r in releases if r.startswith(f"{s}.") and "cloud" in r) for s in ("6.1", "6.12")
    ]
    words = ["--kernels", ",".join(kernels), "--timeout", "6", "--dask", address, "--json"]
    client = subprocess.Popen(
        [sys.executable, "-m", "lkm", "matrix", str(HELLO), str(MODULES / "spin.c"), *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not has_qemu(f"{tmp_path}-a"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers["a"].kill()
    output, _ = client.communicate(timeout=300)
    states = [(cell["source"], cell["state"]) for cell in json.loads(output)["cells"]]
    assert states == [("hello", "ok")] * 2 + [("spin", "hung")] * 2
    assert client.returncode == 1


def test_a_worker_without_qemu_says_so(
    start: Start, address: str, tmp_path: Path, lkm: Any
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith("qemu"):
            (tools / program.name).symlink_to(program)
    worker(start, address, f"{tmp_path}-c", PATH=str(tools))
    done = lkm("matrix", str(HELLO), "--kernels", "6.12", "--dask", address, "--json", "--again")
    (cell,) = json.loads(done.stdout)["cells"]
    assert (done.returncode, cell["state"]) == (3, "error")
    assert cell["reason"] == f"{cell['worker']}: qemu-system-x86_64 is not installed"


def test_no_scheduler_is_trouble_of_this_computer(lkm: Any) -> None:
    done = lkm("matrix", str(HELLO), "--kernels", "6.12", "--dask", "tcp://127.0.0.1:1", "--again")
    assert done.returncode == 3
    assert "no Dask scheduler at tcp://127.0.0.1:1" in done.stderr
