"""Modules that a kernel asks modprobe for, request_module(): found out on one machine, there on the next.

A guest has no modprobe. Its agent puts into the log what was asked for (vm/agent/main.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lkm.kernels.kernel import Kernel
from lkm.targets import Target, needed
from lkm.verdict import ModuleRun, Verdict

__all__ = ["hint", "in_vain", "satisfied", "some", "with_requests"]


def hint(asked: Sequence[str]) -> str | None:
    """What to say of a load that was refused, where the kernel had asked for modules."""
    return f"the kernel asked modprobe for {some(asked)}, which was not there" if asked else None


def some(asked: Sequence[str]) -> str:
    """The first of them, and how many more there are: the crypto layer asks for a dozen."""
    more = f" and {len(asked) - _SHOWN} more" if len(asked) > _SHOWN else ""
    return ", ".join(asked[:_SHOWN]) + more


_SHOWN = 4


def in_vain(asked: Sequence[str], kernel: Kernel) -> tuple[str, ...]:
    """Those that are not built into the kernel, which it asks for, too."""
    if not asked:
        return ()
    from lkm.kernels.modules import read_index

    builtin = read_index(kernel).builtin
    return tuple(name for name in asked if name.replace("-", "_") not in builtin)


def satisfied(
    target: Target, beside: Sequence[Target], kernel: Kernel, attempt: Callable[[Target], ModuleRun]
) -> tuple[Target, ModuleRun]:
    """Tries a target until the kernel asks for no more modules that it or `beside` has.

    The target comes back with what it requests, and with the run in which that was there.
    """
    tried = attempt(target)
    for _ in range(_ROUNDS):
        more = with_requests(target, beside, kernel, tried.asked)
        if more.requests == target.requests:
            break
        target, tried = more, attempt(more)
    if tried.verdict is Verdict.LOAD_FAILED and not tried.hint:
        tried = replace(tried, hint=hint(tried.asked))
    return target, replace(tried, requested=target.requests)


_ROUNDS = 8
"""An algorithm may ask for a template, which asks for another algorithm."""


def with_requests(
    target: Target, beside: Sequence[Target], kernel: Kernel, names: Iterable[str]
) -> Target:
    """The target, with those modules of `beside` and of the kernel that `names` mean among its requests."""
    names = tuple(names)
    if not names:
        return target
    from lkm.kernels.modules import answering

    siblings = {name: _sibling(name, beside) for name in names}
    own = answering(kernel, [name for name, sibling in siblings.items() if sibling is None])
    found = dict.fromkeys(target.requests)
    for name, sibling in siblings.items():
        if sibling is None and name in own:
            found[own[name]] = None
        elif sibling and target not in needed(sibling, beside):
            found[sibling.name] = None
    return replace(target, requests=tuple(found))


def _sibling(name: str, beside: Sequence[Target]) -> Target | None:
    from lkm.kernels.modules import matches

    for other in beside:
        if any(matches(alias, name) for alias in (other.name, *other.object.aliases)):
            return other
    return None
