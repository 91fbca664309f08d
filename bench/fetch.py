"""What a cold fetch of a kernel takes from a mirror at 10 MB/s, and where the time goes.

    python -m bench.fetch [K ...] [--rate 10] [--json]

The mirror is on the loopback and has what the real one has, which it asks before, unmeasured. The store is a
new one below LKM_CACHE_DIR, with its package lists fetched, and links to the files of the real one's toolchain
roots, so that nothing of it changes. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import stores
from bench.mirror import recorded, serving
from lkm import paths
from lkm.arch import X86_64
from lkm.kernels import apt, catalog, store
from lkm.kernels.kernel import Kernel

LIMIT = 15.0
STAGES = {
    "asking": "what apt says that it needs",
    "fetching the kernel": "download and verify; unpack and index meanwhile",
    "unpacking the kernel": "what is left to unpack then",
    "indexing": "what is left of depmod, and of compressing what Debian does not",
    "writing": "syncfs",
}
"""How the stage's line of progress begins, and what it is."""


@dataclass(frozen=True)
class Fetched:
    """One cold fetch: bytes downloaded and kept, seconds, and seconds by stage."""

    release: str
    downloaded: int
    occupied: int
    seconds: float
    stages: dict[str, float]


class Clock:
    """A `Progress` that adds up how long each stage took."""

    def __init__(self) -> None:
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.downloaded = 0
        self._stage = "asking"
        self._since = time.monotonic()

    def step(self, text: str) -> None:
        """Another stage, or a remark within one."""
        now = time.monotonic()
        self.stages[self._stage] += now - self._since
        self._since = now
        self._stage = next((stage for stage in STAGES if text.startswith(stage)), self._stage)

    def amount(self, done: float, total: float | None, unit: str = "") -> None:
        """How much there is to download."""
        if unit == "B":
            self.downloaded = int(total or done)


def measured(name: str, roots: Path, rate: float, until_end: ExitStack) -> Fetched:
    """Fetch a kernel twice: once to have its files on the loopback, and once with the clock.

    The stores last until the end: ext4 without a journal passes over inodes deleted in the last minutes
    (recently_deleted(), fs/ext4/ialloc.c, 6.18), and the store after a removed one took 10 s more to fill.
    """
    upstream = os.environ.pop("LKM_DEBIAN_MIRROR", None) or apt.find_mirror()
    with serving(recorded(upstream, roots.parent / "mirror")) as mirror:
        os.environ["LKM_DEBIAN_MIRROR"] = mirror.url
        try:
            until_end.enter_context(stores.own("roots", of=roots.parent, beside=roots.parent))
            release = store.fetch_newest(name).release
            mirror.rate = rate
            until_end.enter_context(stores.own("roots", of=roots.parent, beside=roots.parent))
            return _timed(release)
        finally:
            os.environ["LKM_DEBIAN_MIRROR"] = upstream


def _timed(release: str) -> Fetched:
    offer = catalog.find_offer(catalog.parse_name(release))
    assert offer is not None
    apt.refresh(apt.world(offer.suite, X86_64))
    started, clock = time.monotonic(), Clock()
    kernel: Kernel = store.fetch_newest(release, progress=clock)
    clock.step("")
    seconds = time.monotonic() - started
    return Fetched(release, clock.downloaded, kernel.disk_bytes or 0, seconds, clock.stages)


def show(made: Fetched, rate: float) -> None:
    """As text."""
    at_best = made.downloaded / rate
    print(
        f"{made.release}: {made.seconds:.1f} s (asked: {LIMIT:.0f}); {made.downloaded / 1e6:.1f} MB take"
        f" {at_best:.1f} s at {rate / 1e6:g} MB/s; {made.occupied / 1e6:.0f} MB kept"
    )
    for stage, what in STAGES.items():
        print(f"  {made.stages[stage]:6.2f} s  {what}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["6.12"], metavar="K")
    parser.add_argument("--rate", type=float, default=10.0, help="MB/s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rate = arguments.rate * 1e6
    real = paths.cache_dir()
    with tempfile.TemporaryDirectory(prefix="bench-fetch-", dir=real) as made:
        roots = Path(made, "roots")
        for home in (real / "roots").glob("[!.]*"):
            shutil.copytree(home, roots / home.name, symlinks=True, copy_function=os.link)
        with ExitStack() as until_end:
            found = [measured(name, roots, rate, until_end) for name in arguments.kernels]
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], indent=1))
    else:
        for each in found:
            show(each, rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
