"""lkm's rules for parameters against a real kernel's: the same drawn values, two verdicts, two read-backs.

    python -m bench.params_differential [--kernel K] [--values 20000] [--seed N] [--json]

Hypothesis draws the values for every parameter of examples/params. Each is judged by `lkm.params`, written to
the parameter's file in sysfs and given to insmod; argument strings with quotes and white space in every place
are taken apart by `params.parse_arguments` and by the kernel. Compared are whether the value is taken, the
errno, the line in the log, and what the file shows then. The exit code is 1 for the first disagreement,
which is shown as small as hypothesis can make it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Self

from hypothesis import HealthCheck, Phase, given, seed, settings

import lkm.kbuild as builds
from bench.params_values import (
    Given,
    Verdict,
    argument_strings,
    assignments,
    foretold,
    shown,
    texts_of,
    verdict,
)
from lkm import ko, params
from lkm import source as sources
from lkm.end import End
from lkm.errors import UsageError, errno_name
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.machine import Outcome
from lkm.params import Assignment
from lkm.vm.fresh import Fresh

PARAMS = Path(__file__).parents[1] / "examples" / "params"
FILES = "/sys/module/params/parameters/"
PAGE = 4096
"""Bytes that one write(2) hands to a sysfs file (kernfs_fop_write_iter(), fs/kernfs/file.c)."""
ROUND = 50
"""Examples that hypothesis draws for one machine."""


class Judge:
    """A machine with `params` on it, another one after a disagreement, and what was compared."""

    def __init__(self, fresh: Fresh, module: ko.KernelObject, image: bytes) -> None:
        self.fresh = fresh
        self.module = module
        self.image = image
        self.known = {each.name: each for each in module.parameters}
        self.counts: Counter[str] = Counter()
        self.loaded = False
        self.machine = fresh.machine()
        self.defaults()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    def renew(self) -> None:
        """Go on with a machine that nobody has used."""
        self.machine.close()
        self.machine = self.fresh.machine()
        self.loaded = False

    def defaults(self) -> None:
        """Load it without values: sysfs shows what lkm read from the file."""
        self.insmod("", Verdict(), {name: each.default or "" for name, each in self.known.items()})

    def written(self, values: list[Given]) -> None:
        """Each value written to its file, where that can be."""
        if not self.loaded:
            self.defaults()
        for value in values:
            if value.raw and (self.known[value.name].perm or 0) & 0o200:
                self.write(value.name, value.raw[:PAGE])

    def write(self, name: str, raw: bytes) -> None:
        """One value, written."""
        before = self.shows(name)
        text = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        said = verdict(self.module, name, text)
        try:
            self.machine.write(FILES + name, raw)
            number = 0
        except OSError as error:
            number = error.errno or 0
        self.tally("written", said)
        agree(f"write {raw!r} to {name}", said.errno, errno_name(number) if number else "0")
        parameter = self.known[name]
        if said.errno == "0":
            want = shown(parameter, text, text_of(before), self.module.series)
            agree(f"{name} after {raw!r}", texts_of({name: want})[name], self.shows(name))
        elif not parameter.array:  # the elements before the refused one stay
            agree(f"{name} after {raw!r} was refused", before, self.shows(name))

    def given(self, values: list[Given]) -> None:
        """All values that go together in one insmod, and each that does not in one of its own."""
        good = []
        for value in values:
            raw = None if value.raw is None else value.raw.partition(b"\0")[0]
            text = None if raw is None else raw.decode("utf-8", "surrogateescape")
            said = verdict(self.module, value.name, text)
            try:
                words = params.render([Assignment(value.name, text)])
            except UsageError:
                self.counts["beyond quoting"] += 1
                continue
            self.tally("insmod", said)
            if said.errno == "0":
                good.append(Assignment(value.name, text))
            else:
                self.insmod(words, said, {})
        self.together(good)

    def together(self, values: list[Assignment]) -> None:
        """Values that are all good, in one insmod; an odd quote goes last, and a second one alone."""
        odd = [each for each in values if (each.value or "").count('"') % 2]
        even = [each for each in values if each not in odd]
        for some in [even + odd[:1], *([each] for each in odd[1:])]:
            state = {
                each.name: shown(
                    self.known[each.name],
                    each.value,
                    self.known[each.name].default or "",
                    self.module.series,
                )
                for each in some
            }
            self.insmod(params.render(some), Verdict(), state)

    def argued(self, text: str) -> None:
        """A whole argument string, as it is."""
        said, state = foretold(self.module, text)
        self.tally("argument string", said)
        self.insmod(text, said, state if said.errno == "0" else {})

    def insmod(self, words: str, said: Verdict, state: dict[str, str]) -> None:
        """Load the module anew: the errno, the line, and what sysfs shows are as foretold."""
        if self.loaded:
            agree("rmmod params", 0, self.machine.unload("params").errno)
        outcome = self.machine.load(self.image, words)
        self.loaded = not outcome.errno
        self.counts["insmods"] += 1
        agree(f"insmod {words!r} ends", End.DONE, outcome.end)
        agree(f"insmod {words!r}", said.errno, errno_name(outcome.errno) if outcome.errno else "0")
        if all(line and line.isascii() and line.isprintable() for line in said.lines):
            agree(f"the log of insmod {words!r}", said.lines, lines_of(outcome))
        for name, want in texts_of(state).items():
            if (self.known[name].perm or 0) & 0o400:
                agree(f"{name} after insmod {words!r}", want, self.shows(name))

    def shows(self, name: str) -> bytes:
        """What the parameter's file holds now."""
        return self.machine.read(FILES + name)

    def tally(self, way: str, said: Verdict) -> None:
        """A value that was judged."""
        self.counts[f"{way}, {'taken' if said.errno == '0' else said.errno}"] += 1


def agree(what: str, ours: object, kernels: object) -> None:
    """Raise AssertionError where the two differ."""
    if ours != kernels:
        raise AssertionError(f"{what}: lkm says {ours!r}, the kernel {kernels!r}")


def text_of(content: bytes) -> str:
    """A file's content without its last newline."""
    return content.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def lines_of(outcome: Outcome) -> tuple[str, ...]:
    """The lines in which the kernel refused parameters (parse_args(), kernel/params.c)."""
    return tuple(each.text for each in outcome.records if " for parameter `" in each.text)


def one_round(judge: Judge, number: int) -> None:
    """The values that one seed gives."""
    settled = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @settled
    @given(assignments(judge.module), argument_strings(judge.module))
    def agrees(values: list[Given], text: str) -> None:
        try:
            judge.written(values)
            judge.given(values)
            judge.argued(text)
        except AssertionError:
            judge.renew()
            raise

    agrees()


def values_of(counts: Counter[str]) -> int:
    """How many values were compared."""
    return sum(count for what, count in counts.items() if ", " in what)


def compared(kernel: Kernel, values: int, first: int = 0) -> Counter[str]:
    """What was compared, until it is at least `values` of them: seeds from `first` on, a machine for each.

    Raises AssertionError for the first disagreement, made small.
    """
    built = builds.build(sources.find(PARAMS), kernel).objects["params"]
    module, image = ko.read(built.path), ko.read_image(built.stripped)
    total: Counter[str] = Counter()
    with Fresh(kernel) as fresh:
        for number in count(first):
            with Judge(fresh, module, image) as judge:
                one_round(judge, number)
            total += judge.counts
            print(f"{kernel.release}: {values_of(total)} values", end="\r", file=sys.stderr)
            if values_of(total) >= values:
                break
    return total


def main() -> int:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernel")
    parser.add_argument("--values", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    started = time.monotonic()
    kernel = store.get(arguments.kernel)
    try:
        total = compared(kernel, arguments.values, arguments.seed)
    except AssertionError as disagreement:
        print(disagreement, *getattr(disagreement, "__notes__", ()), sep="\n")
        return 1
    report(kernel.release, total, time.monotonic() - started, as_json=arguments.json)
    return 0


def report(release: str, counts: Counter[str], seconds: float, *, as_json: bool) -> None:
    """The figures, for people or for programs."""
    figures = dict(sorted(counts.items()))
    if as_json:
        print(json.dumps({"kernel": release, "values": values_of(counts), "figures": figures}))
        return
    print(f"{release}: {values_of(counts)} values, no disagreement, {seconds:.0f} s")
    for what, number in figures.items():
        print(f"  {what:<28} {number:7}")


if __name__ == "__main__":
    sys.exit(main())
