"""From the frames of problems to lines of source, by the debug info of the modules at hand.

Pure, but for the files that a `Sources` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from lkm.problems.forms import ProblemKind
from lkm.problems.later import Later
from lkm.problems.problem import Frame, Problem, Source

if TYPE_CHECKING:
    from lkm.symbolize import DebugInfo
    from lkm.symbolize.place import Place

__all__ = ["MODULE_AREA", "Module", "Sources", "needs_addresses", "trace", "users_place"]


class Sources(Protocol):
    """Where the files that the compiler read are now. Paths are those of the debug info."""

    def path(self, compiled: str) -> str:
        """The file's path on this computer; the same where it has none."""
        ...

    def is_own(self, compiled: str) -> bool:
        """Whether the file is the user's, and not a header of the kernel's."""
        ...

    def excerpt(self, compiled: str, line: int) -> Source | None:
        """The lines around one; None where the file cannot be shown."""
        ...


@dataclass(frozen=True)
class Module:
    """A module whose debug info is at hand, by its name with underscores.

    `sections` are where the kernel put its sections (/sys/module/NAME/sections), where that is known.
    """

    name: str
    info: DebugInfo
    sections: Mapping[str, int] = field(default_factory=dict)


MODULE_AREA = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""The module area of x86_64 (Documentation/arch/x86/x86_64/mm.rst): it begins at 0xffffffffc0000000 in a kernel
with RANDOMIZE_BASE, and else here (KERNEL_IMAGE_SIZE, arch/x86/include/asm/page_64_types.h)."""


def needs_addresses(problems: Sequence[Problem]) -> bool:
    """Whether a frame is an address in a module's memory, without a symbol: of text that is freed."""
    frames = (
        frame
        for problem in problems
        for frame in (problem.fault, *problem.trace)
        if frame and frame.function is None
    )
    bare = any(frame.address in MODULE_AREA for frame in frames if frame.address is not None)
    return bare or any(_touched(problem) is not None for problem in problems)


_FAULTED = Later(r"(?:page fault for address|dereference, address): ([0-9a-f]{16})\b")


def _touched(problem: Problem) -> int | None:
    """The address in the modules' memory that the kernel's own code could not access."""
    match = _FAULTED.search(problem.summary) if problem.module is None else None
    if match is None or (address := int(match[1], 16)) not in MODULE_AREA:
        return None
    return address


def trace(
    problems: Sequence[Problem], modules: Sequence[Module], sources: Sources
) -> tuple[Problem, ...]:
    """The problems with the places of their frames, and the lines of source where the user's code is at fault.

    `modules` are the user's, and others that have debug info. A frame without a symbol gets one where the
    module's sections are known. What cannot be traced stays as it is.
    """
    tracer = _Tracer({module.name: module for module in modules}, sources)
    return tuple(map(tracer.problem, problems))


def users_place(places: Sequence[Place], sources: Sources) -> Place | None:
    """Of a frame's places the innermost that is in the user's source, and not in a header of the kernel."""
    own = (each for each in places if each.file and sources.is_own(each.file))
    return next(own, places[-1] if places else None)


class _Tracer:
    """Traces problems by some modules and sources."""

    def __init__(self, modules: Mapping[str, Module], sources: Sources) -> None:
        self._modules = modules
        self._sources = sources

    def problem(self, problem: Problem) -> Problem:
        """The problem, traced as far as it goes."""
        frames = tuple(map(self._placed, problem.trace))
        said = self._placed(problem.fault) if problem.fault else None
        fault = self._at_fault(said, frames)
        trace = tuple(map(self._shown, frames))
        if (address := _touched(problem)) and not (fault and fault.module):
            problem = self._of_data(problem, address)
        if fault is None or (problem.module and not fault.module):
            return replace(problem, trace=trace)
        # What the report says of its place holds while it is the place.
        file, line = (problem.file, problem.line) if fault is said else (None, None)
        at = users_place(fault.places, self._sources)
        if at and at.file and file is None:
            file, line = self._sources.path(at.file), at.line
        return replace(
            problem,
            function=fault.function,
            module=problem.module or fault.module,
            offset=fault.offset,
            size=fault.size,
            address=fault.address,
            file=file,
            line=line,
            trace=trace,
            fault=self._shown(fault),
            source=self._sources.excerpt(at.file, at.line) if at and at.file and at.line else None,
        )

    def _of_data(self, problem: Problem, address: int) -> Problem:
        """The problem with the variable of a module that the kernel found gone: a timer or work left armed."""
        for module in self._modules.values():
            location = module.info.locate(address, module.sections)
            data = module.info.data_at(location) if location else None
            if data is None:
                continue
            to = f", which refers to {data.function.name}()" if data.function else ""
            what = f" (in freed memory: {data.name}+{data.offset:#x} [{module.name}]{to})"
            at = data.declared
            return replace(
                problem,
                summary=problem.summary + (what if problem.kind is not ProblemKind.PANIC else ""),
                module=module.name,
                file=self._sources.path(at.file) if at and at.file else None,
                line=at.line if at else None,
                source=self._sources.excerpt(at.file, at.line)
                if at and at.file and at.line
                else None,
            )
        return problem

    def _placed(self, frame: Frame) -> Frame:
        """The frame with a symbol, if it had none, and with its places, their paths as compiled."""
        if frame.function is None:
            frame = self._named(frame)
        module = self._modules.get(frame.module or "")
        if module is None or frame.function is None or frame.offset is None:
            return frame
        exact = frame.exact or frame.offset == 0
        places = module.info.places(frame.function, frame.offset, frame.size, exact=exact)
        return replace(frame, places=places)

    def _named(self, frame: Frame) -> Frame:
        """A frame that is only an address, with the function that was there."""
        for module in self._modules.values() if frame.address is not None else ():
            address = frame.address or 0
            # A return address may be the end of its section.
            location = module.info.locate(address - (not frame.exact), module.sections)
            function = module.info.function_at(location) if location else None
            if location and function:
                offset = location.offset - function.value + (not frame.exact)
                return replace(
                    frame,
                    function=function.name,
                    offset=offset,
                    size=function.extent,
                    module=module.name,
                )
        return frame

    def _at_fault(self, said: Frame | None, frames: Sequence[Frame]) -> Frame | None:
        """The frame where the user's code is at fault: the first in one of the modules at hand."""
        candidates = (said, *(frame for frame in frames if frame.reliable))
        return next((each for each in candidates if each and each.module in self._modules), said)

    def _shown(self, frame: Frame) -> Frame:
        """The frame with the paths that its places have on this computer."""
        path = self._sources.path
        places = (
            replace(place, file=path(place.file)) if place.file else place for place in frame.places
        )
        return replace(frame, places=tuple(places))
