"""Real kernels from a real mirror, unpacked, built against, and refused when tampered with."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lkm import proc, sandbox
from lkm.arch import X86_64
from lkm.errors import HostError
from lkm.kernels import apt, downloads, modules, store, toolchain
from lkm.kernels.kernel import Kernel

pytestmark = pytest.mark.vm

HELLO = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>
static int __init hello_init(void) { pr_info("hello\\n"); return 0; }
static void __exit hello_exit(void) { }
module_init(hello_init);
module_exit(hello_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("hello");
"""


@pytest.fixture(scope="module", params=[None, "6.1"], ids=["default", "6.1"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return store.get(request.param)


def in_sandbox(kernel: Kernel, work: Path, *command: str) -> proc.Finished:
    binds = [sandbox.Bind(host, inside) for host, inside in kernel.binds]
    binds.append(sandbox.Bind(work, "/work", writable=True))
    line = sandbox.argv(kernel.toolchain.root, command, binds=binds, cwd="/work")
    return proc.run(line, stage="test", timeout=120)


def test_kbuild_makes_a_module_for_the_kernel(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "hello.c").write_text(HELLO)
    (tmp_path / "Kbuild").write_text("obj-m := hello.o\n")
    done = in_sandbox(kernel, tmp_path, "make", "-C", kernel.build_dir, "M=/work", "modules")
    assert done.returncode == 0, done.output
    assert f"vermagic={kernel.release} ".encode() in (tmp_path / "hello.ko").read_bytes()
    assert "warning" not in done.output
    assert "not found" not in done.output


def test_the_toolchain_makes_static_programs(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text('#include <stdio.h>\nint main(void) { puts("ok"); }\n')
    assert in_sandbox(kernel, tmp_path, "gcc", "-static", "-o", "a", "a.c").returncode == 0
    assert in_sandbox(kernel, tmp_path, "./a").output == "ok"


@pytest.mark.parametrize(
    "command",
    ["sh -c true", "awk BEGIN{}", "busybox true", "bc --version", "openssl version", "cc --version",
     "pahole --version", "dpkg --print-architecture", "xz --version", "zstd --version",
     "cpio --version", "perl -e 1", "strip --version", "objcopy --version", "which make"],
)  # fmt: skip
def test_the_toolchain_has_what_kbuild_calls(kernel: Kernel, tmp_path: Path, command: str) -> None:
    done = in_sandbox(kernel, tmp_path, *command.split())
    assert done.returncode == 0, done.output


def test_every_fact_of_a_kernel_is_a_file(kernel: Kernel) -> None:
    assert kernel.image.stat().st_size > 1_000_000
    assert "CONFIG_MODULES=y" in kernel.config.read_text()
    assert (kernel.build_dir_on_host / "Module.symvers").is_file()
    assert kernel.modules_dir is not None
    assert (kernel.modules_dir / "modules.builtin").is_file()


def test_modules_are_indexed(kernel: Kernel) -> None:
    order = modules.load_order(kernel, ["virtio_net"])
    names = [modules.module_name(path.name) for path in order]
    assert names.index("failover") < names.index("net_failover") < names.index("virtio_net")
    assert all(path.is_file() for path in order)


def test_a_store_has_no_setuid_programs(kernel: Kernel) -> None:
    found = [
        path
        for directory in ("usr/bin", "bin", "usr/sbin", "sbin")
        for path in (kernel.toolchain.root / directory).glob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o6000
    ]
    assert found == []


def test_a_kernel_that_is_here_is_had_without_running_anything(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*argv: object, **_: object) -> None:
        raise AssertionError(f"a process was started: {argv}")

    monkeypatch.setattr(proc, "popen", must_not_run)
    assert store.get(kernel.release) == kernel


Tamper = Callable[[str, bytes], bytes]


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror that hands out what the real one has, after `tamper(path, body)`."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.rstrip("/")
        self.tamper: Tamper = lambda _, body: body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/debian"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Mirror)
        path = self.path.removeprefix("/debian")
        try:
            with urllib.request.urlopen(self.server.upstream + path, timeout=60) as answer:
                body = self.server.tamper(path, answer.read())
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    upstream = apt.find_mirror()
    if not upstream.startswith(("http:", "https:")):
        pytest.skip(f"the mirror {upstream} is not an HTTP one")
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    # An http proxy of the environment would not reach our loopback.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Mirror(upstream) as server:
        monkeypatch.setenv("LKM_DEBIAN_MIRROR", server.url)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_lists_with_a_changed_signature_are_refused(mirror: Mirror) -> None:
    def change_date(path: str, body: bytes) -> bytes:
        return body.replace(b"Suite: ", b"Suite:  ") if path.endswith("InRelease") else body

    mirror.tamper = change_date
    world = apt.world("bullseye", X86_64)
    with pytest.raises(HostError, match="failed verification") as caught:
        apt.refresh(world)
    assert caught.value.evidence
    assert not world.stamp.exists()


def test_a_changed_package_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    def flip_a_byte(path: str, body: bytes) -> bytes:
        return body[:-1] + bytes([body[-1] ^ 1]) if path.endswith(".deb") else body

    mirror.tamper = flip_a_byte
    world = apt.world("bullseye", X86_64)
    assert apt.refresh(world)
    package = next(p for p in apt.closure(world, ["linux-base"]) if p.name == "linux-base")
    with pytest.raises(HostError, match="failed verification"):
        downloads.get(world, [package], tmp_path)
    mirror.tamper = lambda _, body: body
    assert [path.name for path in downloads.get(world, [package], tmp_path)] == [package.filename]


def test_an_unreachable_mirror_is_the_hosts_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(HostError, match="the mirror cannot be reached") as caught:
        store.get("6.1")
    assert caught.value.exit_code == 3


def test_a_full_disk_is_the_hosts_fault(tmp_path: Path) -> None:
    code = (
        "import lkm.kernels.store as s\n"
        "from lkm.errors import HostError\n"
        "try: s.get('6.1')\n"
        "except HostError as e: print(e)\n"
    )
    # Ten megabytes do not hold the package lists.
    line = ["bwrap", "--dev-bind", "/", "/", "--size", "10000000", "--tmpfs", str(tmp_path)]
    done = proc.run(
        [*line, sys.executable, "-c", code],
        stage="test",
        timeout=120,
        env={**os.environ, "LKM_CACHE_DIR": str(tmp_path)},
    )
    assert "no space left" in done.output
    assert "lkm kernel rm" in done.output


FETCH = """
import sys
from lkm.kernels import store
class Told:
    def step(self, text): print(text, flush=True)
    def amount(self, done, total, unit=""): pass
print(store.get("5.10", progress=Told()).release, flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of its own; deleted, for pytest would keep hundreds of megabytes."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("LKM_CACHE_DIR", str(path))
    yield path
    shutil.rmtree(path)


def start_fetch(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LKM_CACHE_DIR": str(cache)},
    )


def read_until(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(f"the process ended before it said {start!r}")


def using(directory: Path) -> list[str]:
    """The command lines of living processes that name a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line and entry.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.parametrize(
    "stage", ["fetching the toolchain", "unpacking the toolchain", "unpacking the kernel"]
)
def test_a_killed_fetch_leaves_nothing_that_is_believed(cache: Path, stage: str) -> None:
    with start_fetch(cache) as process:
        read_until(process, stage)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while using(cache) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert using(cache) == []
    assert store.installed() == []
    assert store.damaged() == []
    if not stage.endswith("kernel"):
        assert toolchain.find("bullseye", "gcc-10") is None


def test_two_at_once_fetch_a_kernel_once(cache: Path) -> None:
    with start_fetch(cache) as first, start_fetch(cache) as second:
        said = [process.communicate(timeout=300)[0].splitlines() for process in (first, second)]
    assert said[0][-1] == said[1][-1]
    assert sum(line.startswith("fetching the kernel") for lines in said for line in lines) == 1
    assert sum(line.startswith("waiting for another lkm") for lines in said for line in lines) >= 1
    assert list(cache.rglob("*.deb")) == []
    assert list(cache.glob("*/.partial-*")) == []


def test_a_built_tree_needs_no_packages_of_its_own(tmp_path: Path) -> None:
    packaged = store.get("6.1")
    path = merged_tree(packaged, tmp_path / "linux")
    kernel = store.get(f"tree:{path}")
    assert kernel.toolchain == packaged.toolchain
    work = tmp_path / "work"
    work.mkdir()
    (work / "hello.c").write_text(HELLO)
    (work / "Kbuild").write_text("obj-m := hello.o\n")
    done = in_sandbox(kernel, work, "make", "-C", kernel.build_dir, "M=/work", "modules")
    assert done.returncode == 0, done.output
    assert f"vermagic={kernel.release} ".encode() in (work / "hello.ko").read_bytes()


def merged_tree(kernel: Kernel, path: Path) -> Path:
    """Debian's split headers put together again, as a tree looks after `make bzImage modules`."""
    home = kernel.build_dir_on_host.parents[2]
    ours = kernel.build_dir_on_host
    (common,) = ours.parent.glob("linux-headers-*-common")
    (kbuild,) = (home / "usr/lib").glob("linux-kbuild-*")
    for source in (common, ours, kbuild):
        shutil.copytree(
            source,
            path,
            symlinks=True,
            dirs_exist_ok=True,
            ignore=lambda directory, names: [
                name
                for name in names
                if Path(directory, name).is_symlink() or name in {".kernelvariables"}
            ],
        )
    shutil.copy(common / "Makefile", path / "Makefile")
    # Debian's release is in .kernelvariables; a tree's own is where its builds find it.
    (path / "include/config/kernel.release").write_text(f"{kernel.release}\n")
    image = path / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(kernel.image, image)
    return path


def test_the_users_apt_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "apt.conf"
    settings.write_text('Acquire::http::Proxy "http://127.0.0.1:9/";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://mirror.invalid/debian")
    with pytest.raises(HostError) as caught:
        apt.refresh(apt.world("trixie", X86_64))
    assert "127.0.0.1:9" in str(caught.value)
