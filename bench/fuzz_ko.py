"""Damaged kernel objects through lkm's readers: only LkmErrors come out, within 1 s and 200 MB each.

    python -m bench.fuzz_ko [--cases 200000] [--seed N] [--only INDEX] [--read] [--save DIR] [--json]

Every truncation of a small object, then objects damaged in every part that anybody reads, then compressed ones
with damage inside and outside, bombs among them. Each is read with all facts, shown, and (but for `--read`)
judged by `lkm.loadcheck` against a real kernel. One worker process at a time does it: its own CPU time is
measured for each case, and how far its memory grew. A case is told by the seed and its index, and `--only`
repeats it. What fails is made as small as it can be and kept in DIR. The exit code is 1 where something failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import mmap
import multiprocessing
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.fuzz_ko_mutations import KINDS, Base, bombs
from lkm import ko
from lkm.errors import LkmError
from lkm.kernels import store
from lkm.kernels.modules import find
from lkm.ko import compression, modinfo
from lkm.loadcheck import KernelFacts, check, facts_of

DATA = Path(__file__).parents[1] / "tests" / "data"
CHUNK = 1000
"""Cases that one worker process does."""
SECONDS = 1.0
MEMORY = 200 << 20
STUCK = 20
"""Seconds of wall time after which a worker is killed."""
ADDRESS_SPACE = 4 << 30
"""What a worker may map at all, for the computer's sake."""


@dataclass(frozen=True)
class Case:
    """A damaged object, what it was made of, and the kernel that judges it."""

    index: int
    kind: str
    base: Base
    data: bytes = field(repr=False)
    facts: KernelFacts | None = field(repr=False)


@dataclass(frozen=True)
class Find:
    """A case that failed, and how."""

    index: int
    kind: str
    what: str


@dataclass
class Tally:
    """What came of the cases of one worker, or of all of them. Seconds are of CPU time, memory is in bytes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    finds: list[Find] = field(default_factory=list)
    seconds: float = 0.0
    slowest: str = ""
    memory: int = 0

    def add(self, other: Tally) -> None:
        """Take another's cases in."""
        self.outcomes += other.outcomes
        self.kinds += other.kinds
        self.finds += other.finds
        self.memory = max(self.memory, other.memory)
        if other.seconds > self.seconds:
            self.seconds, self.slowest = other.seconds, other.slowest


# The cases


class Cases:
    """Case number N, for any N: always the same for a seed and for the kernels that are on this disk."""

    def __init__(self, seed: int, *, judged: bool = True) -> None:
        self.seed = seed
        self.targets = [(base, facts if judged else None) for base, facts in _targets()]
        smallest = self.targets[0]
        self.cut = [(smallest, end) for end in range(len(smallest[0].data))]
        bombs()  # slow to make, and the workers inherit them
        self.kinds = [kind for kind, (_, weight) in KINDS.items() for _ in range(weight)]

    def __call__(self, index: int) -> Case:
        if index < len(self.cut):
            (base, facts), end = self.cut[index]
            return Case(index, "truncation", base, base.data[:end], facts)
        rng = random.Random(f"{self.seed} {index}")
        base, facts = rng.choice(self.targets)
        kind = rng.choice(self.kinds)
        return Case(index, kind, base, KINDS[kind][0](rng, base), facts)


def _targets() -> Iterator[tuple[Base, KernelFacts]]:
    """The objects to damage, the smallest first, each with the facts of the kernel that it is nearest to."""
    kernels = store.installed()
    signature = (DATA / "ko" / "signature.bin").read_bytes()
    new = (DATA / "ko" / "everything-7.3.ko").read_bytes()
    old = (DATA / "ko" / "everything-5.10.ko").read_bytes()
    yield Base.of("everything-7.3", new), facts_of(kernels[-1])
    yield Base.of("everything-5.10", old + signature), facts_of(kernels[0])
    for kernel in kernels:
        yield (
            Base.of(f"dummy of {kernel.release}", ko.read_image(find(kernel, "dummy"))),
            facts_of(kernel),
        )


# One case


def read(data: bytes) -> tuple[str, bytes | None]:
    """Read and show all of it: what was said, and the bytes without their compression."""
    try:
        image = compression.decompress(data, "x.ko")
    except LkmError as error:
        return _said(error), None
    try:
        module = ko.parse(image, "x.ko")
    except LkmError as error:
        return _said(error), image
    assert ko.KernelObject.from_dict(module.to_dict()) == module
    json.dumps(ko.describe(module))
    for separator in "\n\0":
        modinfo.render(module, "x.ko", separator=separator)
    return "read", image


def judge(image: bytes, facts: KernelFacts) -> str:
    """What a kernel would say to it: the verdict, or the error that came instead."""
    try:
        report = check(image, facts)
    except LkmError as error:
        return _said(error)
    json.dumps(report.to_dict())
    return str(report.verdict)


def _said(error: LkmError) -> str:
    """The summary with numbers and names left out; it is one short line."""
    assert "\n" not in error.summary, error.summary
    return re.sub(r"0x[0-9a-f]+|\d+|section \S+|b'.*'", "N", error.summary)[:100]


@dataclass
class Outcome:
    """What was said of a case, how it failed, and its cost.

    `seconds` of CPU time and `memory` in bytes are those of the costlier half, reading or judging.
    """

    said: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0


def outcome(case: Case) -> Outcome:
    """Read it, judge it, and look at the clock and at the memory each time."""
    found = Outcome()
    images: list[bytes] = []

    def reading() -> str:
        said, image = read(case.data)
        images.extend([image] if image is not None else [])
        return said

    _measured("read", reading, found)
    if images and case.facts:
        _measured("check", partial(judge, images[0], case.facts), found)
    return found


def _measured(what: str, job: Callable[[], str], found: Outcome) -> None:
    before, started = _resident(), time.process_time()
    try:
        found.said.append(f"{what}: {job()}")
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.name}"
        found.failures.append(f"{what}: {type(error).__name__} in {place}")
    seconds, memory = time.process_time() - started, _peak() - before
    found.seconds, found.memory = max(found.seconds, seconds), max(found.memory, memory)
    if seconds > SECONDS:
        found.failures.append(f"{what}: more than {SECONDS:g} s")
    if memory > MEMORY:
        found.failures.append(f"{what}: more than {MEMORY >> 20} MiB")


def _peak() -> int:
    """The most memory that this process has had since it was last asked what it has, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _resident() -> int:
    """The memory that this process has, in bytes; the peak starts from here (clear_refs, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


# The worker


def work(cases: Cases, indices: Sequence[int], at: mmap.mmap, answer: Connection) -> None:
    """A worker process: the cases of these indices; `at` says which one it is at."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    tally = Tally()
    for index in indices:
        at[:8] = struct.pack("<Q", index)
        case = cases(index)
        signal.alarm(STUCK)  # not handled: it kills
        found = outcome(case)
        signal.alarm(0)
        tally.kinds[case.kind] += 1
        tally.outcomes.update(found.said)
        tally.finds += [Find(index, case.kind, what) for what in found.failures]
        tally.memory = max(tally.memory, found.memory)
        if found.seconds > tally.seconds:
            tally.seconds, tally.slowest = found.seconds, f"{index}, {case.kind}"
    answer.send(tally)
    answer.close()


def in_worker(cases: Cases, indices: Sequence[int]) -> Tally:
    """The same, from outside: a worker that dies leaves a find, and another goes on behind it."""
    context = multiprocessing.get_context("fork")
    at = mmap.mmap(-1, 8)
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(cases, indices, at, its))
    process.start()
    its.close()
    try:
        tally: Tally = mine.recv()
    except EOFError:
        process.join()
        died = struct.unpack("<Q", at[:8])[0]
        tally = Tally(finds=[Find(died, cases(died).kind, f"exit code {process.exitcode}")])
        rest = [index for index in indices if index > died]
        done = [index for index in indices if index < died]
        for some in (done, rest):
            if some:
                tally.add(in_worker(cases, some))
    process.join()
    return tally


# What failed


def smallest(case: Case, failure: str) -> bytes:
    """The case with as much of its damage undone as leaves an exception where it is; others as they are."""
    if " in " not in failure or len(case.data) != len(case.base.data):
        return case.data
    data = case.data
    places = [
        at for at, (one, other) in enumerate(zip(data, case.base.data, strict=True)) if one != other
    ]
    for at in places:
        tried = data[:at] + case.base.data[at : at + 1] + data[at + 1 :]
        if failure in outcome(replace(case, data=tried)).failures:
            data = tried
    return data


def keep(cases: Cases, finds: Sequence[Find], into: Path) -> list[Path]:
    """The first find of each failure, small, compressed, in files."""
    into.mkdir(parents=True, exist_ok=True)
    first = {found.what: found for found in reversed(finds)}
    written = []
    for what, found in first.items():
        data = smallest(cases(found.index), what)
        path = into / f"{hashlib.sha256(data).hexdigest()[:12]}.xz"
        path.write_bytes(lzma.compress(data))
        written.append(path)
    return written


def main() -> int:
    """Damage, read, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--read", action="store_true", help="only read, judge nothing")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cases = Cases(arguments.seed, judged=not arguments.read)
    if arguments.only is not None:
        case = cases(arguments.only)
        print(case, outcome(case))
        return 0
    started = time.monotonic()
    total = Tally()
    for start in range(0, arguments.cases, CHUNK):
        total.add(in_worker(cases, range(start, min(start + CHUNK, arguments.cases))))
        print(f"{start} cases, {len(total.finds)} finds", end="\r", file=sys.stderr)
    report(total, time.monotonic() - started, as_json=arguments.json)
    for path in keep(cases, total.finds, arguments.save) if arguments.save else ():
        print(f"kept {path}", file=sys.stderr)
    return 1 if total.finds else 0


def report(total: Tally, seconds: float, *, as_json: bool) -> None:
    """The figures, for people or for programs."""
    if as_json:
        figures: dict[str, Any] = {**vars(total), "finds": [vars(each) for each in total.finds]}
        print(json.dumps(figures))
        return
    print(
        f"{total.kinds.total()} cases, {len(total.finds)} failed, {len(total.outcomes)} different outcomes,"
        f" {seconds:.0f} s"
    )
    print(
        f"  slowest {total.seconds:.2f} s of CPU time ({total.slowest}), most memory {total.memory >> 20} MiB"
    )
    for kind, count in sorted(total.kinds.items()):
        print(f"  {kind:<20} {count:7}")
    for said, count in total.outcomes.most_common(12):
        print(f"  {count:7}  {said}")
    for (kind, what), count in Counter((each.kind, each.what) for each in total.finds).items():
        first = min(each.index for each in total.finds if (each.kind, each.what) == (kind, what))
        print(f"  FAILED {count:7}  {kind}: {what} (--only {first})")


if __name__ == "__main__":
    sys.exit(main())
