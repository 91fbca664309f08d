"""The samples on every kernel that Debian offers: the newest of each suite and flavour.

    python -m bench.all_kernels [--flavour F ...] [--suite S ...] [--keep] [--write PAGE] [--json FILE]

Each is fetched into a store of its own, which is removed again without --keep, so that its size and the time
of the fetch are those of a user who has nothing of it yet; toolchain roots are the user's own, and count for no
kernel.
Then it boots once, and each sample is built, loaded with parameters, unloaded and held to what it has to print.
With --write the table in PAGE, between its two marks, is made anew.

About 24 kernels and 4 GB from the mirror.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import page, stores
from lkm.errors import LkmError
from lkm.kernels import catalog, store
from lkm.kernels.catalog import FLAVOURS, series_of
from lkm.kernels.kernel import Kernel
from lkm.kernels.suites import SUITES
from lkm.run import Rig, run
from lkm.verdict import Verdict
from lkm.vm.fresh import Fresh

SUITE_NAMES = [suite.name for suite in SUITES]
EXAMPLES = Path(__file__).parents[1] / "examples"
MARK = "<!-- the table: python -m bench.all_kernels --write -->"


@dataclass(frozen=True)
class Sample:
    """A sample, the parameters that it gets, and lines that it has to print, the last when it is unloaded."""

    name: str
    params: dict[str, str | None]
    says: tuple[str, ...]


SAMPLES = (
    Sample("hello", {}, ("hello: init", "hello: exit")),
    Sample("mulfile", {}, ("my_module: init", "mymodule_sub: called", "my_module: exit")),
    Sample(
        "getargs", {"intparam": "123", "array": "12,23"},
        ("getargs: => intparam\t= 123", "getargs: => array\t= [ 12 23 0 0 0 0 0 0]"),
    ),
    Sample("params", {}, ()),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What became of a kernel: seconds, bytes, and why each sample that is not good is not."""

    release: str
    suite: str
    flavour: str
    compiler: str = ""
    fetch_seconds: float = 0.0
    disk_bytes: int = 0
    boot_seconds: float = 0.0
    failures: dict[str, str] | None = None
    error: str = ""


def newest(suites: Sequence[str], flavours: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(release, suite, flavour) of the newest kernel of each suite and flavour that is offered."""
    found: dict[tuple[str, str], str] = {}
    for offer in catalog.available():
        if offer.suite in suites and offer.flavour in flavours:
            found[offer.suite, offer.flavour] = offer.release
    for (suite, flavour), release in found.items():
        yield release, suite, flavour


def tried(release: str, suite: str, flavour: str) -> Row:
    """One kernel, from the archive to the last sample's unload."""
    started = time.monotonic()
    try:
        kernel = store.get(release)
        fetched = time.monotonic() - started
        with Fresh(kernel) as fresh, fresh.machine():
            booted = time.monotonic() - started - fetched
        failures = {sample.name: why for sample in SAMPLES if (why := failure(sample, kernel))}
    except LkmError as error:
        return Row(release, suite, flavour, error=str(error))
    return Row(
        release, suite, flavour, kernel.toolchain.cc if kernel.toolchain else "",
        fetched, kernel.disk_bytes or 0, booted, failures,
    )  # fmt: skip


def failure(sample: Sample, kernel: Kernel) -> str:
    """Why a sample did not do what it has to; empty where it did."""
    with Fresh(kernel) as fresh:
        rig = Rig(lambda _: fresh.machine(), another=fresh.machine)
        done = run(EXAMPLES / sample.name, kernel, rig, params=sample.params or None)
    (module,) = done.modules
    if module.verdict is not Verdict.OK:
        return f"{module.verdict}: {module.reason}"
    said = [record.text for record in module.log]
    missing = [line for line in sample.says if line not in said]
    return f"did not print {missing[0]!r}" if missing else ""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The Markdown, oldest series first."""
    yield "| kernel | suite | compiler | fetched in | on disk | boots in | samples |"
    yield "|---|---|---|---:|---:|---:|---|"
    for row in rows:
        if row.error:
            yield f"| {row.release} | {row.suite} | | | | | **{row.error.splitlines()[0]}** |"
            continue
        wrong = "; ".join(f"**{name}**: {why}" for name, why in (row.failures or {}).items())
        yield (
            f"| {row.release} | {row.suite} | {row.compiler} | {row.fetch_seconds:.0f} s"
            f" | {row.disk_bytes / 1e6:.0f} MB | {row.boot_seconds:.1f} s | {wrong or 'all four'} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--suite", action="append", choices=SUITE_NAMES)
    parser.add_argument("--flavour", action="append", choices=list(FLAVOURS))
    parser.add_argument(
        "--keep", action="store_true", help="use the user's own store, and leave it"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        if not arguments.keep:
            home = stack.enter_context(stores.own("apt", "roots", "accel.json"))
        for release, suite, flavour in newest(
            arguments.suite or SUITE_NAMES, arguments.flavour or FLAVOURS
        ):
            row = tried(release, suite, flavour)
            rows.append(row)
            print(*list(table([row]))[2:], flush=True)
            if not arguments.keep:
                shutil.rmtree(home / "snapshots", ignore_errors=True)
    rows.sort(key=lambda row: catalog.version_key(row.release))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if arguments.write:
        page.write(arguments.write, MARK, table(rows))
    good = [row for row in rows if not row.error and not row.failures]
    series = {series_of(row.release) for row in good}
    print(f"{len(good)} of {len(rows)} kernels, {len(series)} series", file=sys.stderr)


if __name__ == "__main__":
    main()
