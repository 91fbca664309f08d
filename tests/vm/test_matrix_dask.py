"""A matrix on a Dask cluster of this computer: a scheduler, two workers, and one of them killed in mid-run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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


def test_a_dead_client_a_dead_worker_and_a_useless_one_lose_nothing(
    start: Start, address: str, tmp_path: Path
) -> None:
    workers = {name: worker(start, address, f"{tmp_path}-{name}") for name in ("a", "b")}
    client_dir = own_store(tmp_path)
    quick = [str(HELLO), str(MODULES / "oops_init.c")]
    words = ["--kernels", kernel(tmp_path), "--timeout", "2", "--dask", address, "--json"]

    first = client([*quick, str(MODULES / "spin.c"), *words], client_dir)
    wait_until(lambda: any(client_dir.glob("matrix/results/*/*.json")))
    first.kill()
    first.communicate()
    wait_until(lambda: not busy(tmp_path, workers))

    second = client([*quick, str(MODULES / "spin.c"), *words], client_dir)
    wait_until(lambda: busy(tmp_path, workers))
    workers[busy(tmp_path, workers)[0]].kill()
    output, errors = second.communicate(timeout=300)
    assert output, errors
    cells = json.loads(output)["cells"]
    states = [(cell["source"], cell["state"]) for cell in cells]
    assert states == [("hello", "ok"), ("oops_init", "problem"), ("spin", "hung")]
    assert any(cell["kept"] for cell in cells)
    assert second.returncode == 1

    worker(start, address, f"{tmp_path}-useless", PATH=str(without_qemu(tmp_path)))
    wait_for_workers(address, 2)
    third = client([*quick, *words, "--again"], client_dir)
    output, errors = third.communicate(timeout=300)
    assert [cell["state"] for cell in json.loads(output)["cells"]] == ["ok", "problem"], errors
    told = [line for line in errors.splitlines() if "got no more cells" in line]
    assert len(told) == 1
    assert "qemu-system-x86_64 is not installed" in told[0]


def wait_for_workers(address: str, count: int) -> None:
    code = f"import distributed; distributed.Client({address!r}).wait_for_workers({count}, 60)"
    subprocess.run([sys.executable, "-c", code], check=True)


def without_qemu(tmp_path: Path) -> Path:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith("qemu"):
            (tools / program.name).symlink_to(program)
    return tools


def own_store(tmp_path: Path) -> Path:
    """A client's store with none of the files that the workers have, but package lists."""
    path = tmp_path / "client"
    path.mkdir()
    (path / "apt").symlink_to(cache_dir() / "apt")
    return path


def kernel(tmp_path: Path) -> str:
    releases = [each.name for each in (store(tmp_path) / "kernels").iterdir()]
    return next(r for r in releases if r.startswith("6.12.") and "cloud" in r)


def client(words: list[str], cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lkm", "matrix", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LKM_CACHE_DIR": str(cache)},
        text=True,
    )


def busy(tmp_path: Path, workers: Iterable[str]) -> list[str]:
    """Which of the workers have a machine."""
    return [name for name in workers if has_qemu(f"{tmp_path}-{name}")]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
