"""Modules that do their worst: a verdict in bounded time and memory, and nothing of it reaches the host."""

from __future__ import annotations

import ctypes
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lkm as lkm_api
from lkm.paths import cache_dir
from lkm.vm import launch

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parents[1] / "data" / "hostile"
PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
MEMORY = 512 << 20

# What a module may come to by each attack. More than one where it is a race between its doing and its
# being unloaded.
VERDICTS = {
    "triple_fault": {"panic"},
    "no_page_tables": {"panic"},
    "endless_recursion": {"panic", "problem", "hung"},
    "registers": {"panic"},
    "deaf": {"hung"},
    "irqs_off_spin": {"hung"},
    "all_memory": {"problem", "panic", "hung"},
    "break_slab": {"problem", "panic", "hung"},
    "fill_pages": {"hung", "panic"},
    "hide": {"unload-failed"},
    "endless_threads": {"hung", "panic"},
    "endless_log_behind": {"hung", "problem"},
    "kill_first_process": {"ok", "panic"},
    "kill_all_processes": {"problem", "panic"},
    "fork_bomb": {"ok", "hung", "panic", "problem"},
    "fill_files": {"ok", "hung", "panic", "problem"},
    "every_port": {"panic", "hung"},
    "pci_config": {"panic", "hung"},
    "device_memory": {"hung", "panic", "problem"},
    "endless_serial": {"hung"},
    "restart": {"panic"},
    "reset_by_port": {"panic"},
    "power_off_by_port": {"panic"},
    "suspend_by_port": {"hung", "panic"},
    "garbage": {"panic"},
    "endless_data": {"hung", "panic"},
    "endless_deaths": {"problem"},
    "forged_answer": {"hung"},
    "half_a_frame": {"hung"},
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, its document, the most memory that it held, in bytes."""

    code: int
    document: dict[str, Any]
    memory: int
    said: str


_MEASURED = """
import pathlib, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
pathlib.Path(sys.argv[1]).write_text(str(most << 10))
sys.exit(done.returncode)
"""
"""In a process of its own: that of the tests has had children that other tests started."""


def run(attack: str, env: dict[str, str]) -> Ended:
    words = [str(SOURCE), f"attack={attack}", "--json", "--timeout", "2"]
    with tempfile.NamedTemporaryFile("r") as memory:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _MEASURED,
                memory.name,
                sys.executable,
                "-m",
                "lkm",
                "run",
                *words,
            ],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = process.communicate(timeout=300)
        return Ended(process.returncode, json.loads(out or "{}"), int(memory.read()), err)


def children() -> set[str]:
    """Those of this process that are alive: what lkm leaves behind is adopted by it."""
    tasks = Path("/proc/self/task").iterdir()
    found = {pid for task in tasks for pid in (task / "children").read_text().split()}
    return {pid for pid in found if not _is_zombie(pid)}


def _is_zombie(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def frozen() -> dict[Path, tuple[int, int]]:
    files = [
        path for name in ("ram", "state") for path in cache_dir().glob(f"snapshots/[!.]*/{name}")
    ]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("attack", VERDICTS)
def test_an_attack_gets_a_verdict_and_leaves_nothing(
    attack: str, tmp_path: Path, runtime_dir: Path
) -> None:
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    env = {"LKM_RUNTIME_DIR": str(runtime_dir), "TMPDIR": str(tmp_path)}
    before, machines = children(), frozen()
    ended = run(attack, env)
    assert ended.document, ended.said
    (module,) = ended.document["modules"]
    assert module["verdict"] in VERDICTS[attack], module
    assert ended.code == (0 if module["verdict"] == "ok" else 1)
    assert ended.memory < MEMORY
    assert children() <= before
    assert not list(tmp_path.iterdir())
    after = frozen()
    assert all(after.get(path, facts) == facts for path, facts in machines.items())


def test_after_them_a_machine_is_as_ever(lkm: Any) -> None:
    done = lkm("run", "--json", str(SOURCE.parents[2] / "examples" / "hello"))
    (module,) = json.loads(done.stdout)["modules"]
    assert module["verdict"] == "ok"


@pytest.mark.parametrize("seen", ["ram", "forks-*.so"])
def test_qemu_sees_no_network_and_no_file_of_the_users(
    seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_restored", int(seen != "ram"))
    with lkm_api.kernel().machine() as vm:
        qemu = vm.machine.link.pid
        assert qemu
        root = Path(f"/proc/{qemu}/root")
        to_ram = cache_dir().parts[1]
        names = {path.name for path in root.iterdir()} - {to_ram}
        files = [path.name for path in (root / to_ram).rglob("*") if path.is_file()]
        interfaces = Path(f"/proc/{qemu}/net/dev").read_text().splitlines()[2:]
        assert "usr" in names
        assert len(files) == 1
        assert fnmatch.fnmatch(files[0], seen)
        assert not {"home", "root", "var", "srv", "tmp", "mnt"} & names
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
