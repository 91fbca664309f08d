"""What 100 packages on 1,000 kernels would need, computed from what `bench.matrix` measured, for the docs.

    python -m bench.matrix --json bench/matrix.json
    python -m bench.capacity --write

Without --write the table is printed. A test holds docs/how-to/many-machines.md to the figures in the file.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).with_name("matrix.json")
PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "many-machines.md"
PACKAGES, KERNELS = 100, 1000
RATE = 10e6
"""Bytes a second at which a computer fetches: the issue's 10 MB/s."""
SIZES = ((1, 2), (1, 64), (10, 64), (100, 64))
_BLOCK = re.compile(r"(<!-- python -m bench\.capacity --write -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Need:
    """What so many computers need, in seconds of wall time and bytes of disk, each of them.

    `cells` are the cells alone, `kernels` fetching and booting them, neither at the same time: an upper bound.
    """

    cells: float
    kernels: float
    disk: float

    @property
    def total(self) -> float:
        """Seconds from begin to end."""
        return self.cells + self.kernels


def need(figures: dict[str, float], computers: int, cores: int) -> Need:
    """For PACKAGES on KERNELS, each computer with a store of its own, and a cell of every kernel if it can."""
    cells = PACKAGES * KERNELS
    here = min(KERNELS, cells / computers)
    efficiency = min(
        1.0, figures["efficiency_of_two_workers"] / figures["what_two_runs_apart_reach"]
    )
    booting = here * figures["cpu_to_boot_and_freeze"] / cores
    fetching = here * figures["kernel_download"] * 1e6 / RATE
    return Need(
        cells=max(
            cells * figures["cpu_a_package_cell"] / (computers * cores * efficiency),
            cells * figures["scheduler_cpu_a_cell"],
        ),
        kernels=booting + fetching,
        disk=here * (figures["kernel_on_disk"] + figures["frozen_on_disk"]) * 1e6,
    )


def table(document: dict[str, Any]) -> str:
    """The block of the page, in Markdown."""
    figures = document["figures"]
    rows = ["| computers | cores of each | cells | fetch and boot | in all | disk of each |"]
    rows.append("|---:|---:|---:|---:|---:|---:|")
    for computers, cores in SIZES:
        found = need(figures, computers, cores)
        times = (_hours(each) for each in (found.cells, found.kernels, found.total))
        words = (str(computers), str(cores), *times, f"{found.disk / 1e9:,.0f} GB")
        rows.append(f"| {' | '.join(words)} |")
    return "\n".join([*_premises(document), "", *rows, ""])


def _premises(document: dict[str, Any]) -> list[str]:
    of = document["figures"]
    busy = PACKAGES * KERNELS * of["scheduler_cpu_a_cell"]
    return [
        f"Computed from what `python -m bench.matrix` measured on {document['date']}: {document['computer']},",
        f"load {document['load']}:",
        "",
        f"- a cell of a small package (rapiddisk, vpoll): {of['cpu_a_package_cell']:.1f} s of CPU;",
        f"- two workers reach {of['efficiency_of_two_workers']:.0%} of twice one,"
        f" two runs that know nothing of each other {of['what_two_runs_apart_reach']:.0%};",
        f"- a kernel: {of['kernel_download']:.0f} MB to fetch, at {RATE / 1e6:.0f} MB/s a computer,"
        f" {of['cpu_to_boot_and_freeze']:.1f} s of CPU to boot and freeze,",
        f"  {of['kernel_on_disk']:.0f} MB of disk unpacked and {of['frozen_on_disk']:.0f} MB frozen;",
        f"- Dask's scheduler: {1000 * of['scheduler_cpu_a_cell']:.1f} ms of CPU a cell, so the cells"
        f" take {_hours(busy)} at least.",
    ]


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def with_table(page: str, document: dict[str, Any]) -> str:
    """The page with the block made anew."""
    assert _BLOCK.search(page), "the page has no block for the table"
    return _BLOCK.sub(lambda found: f"{found[1]}{table(document)}{found[2]}", page)


def main() -> None:
    """Print the table, or put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="put it into the page")
    arguments = parser.parse_args()
    document = json.loads(arguments.figures.read_text())
    if arguments.write:
        PAGE.write_text(with_table(PAGE.read_text(), document))
    else:
        print(table(document))


if __name__ == "__main__":
    main()
