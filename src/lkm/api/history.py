"""What was done with modules on a machine, by which the problems of those that are gone are traced."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.decoding import Decoder
from lkm.errors import LkmError, LoadError, UnloadError
from lkm.machine import Area

if TYPE_CHECKING:
    from lkm.machine import Needs
    from lkm.problems import Problem
    from lkm.targets import Target, Targets
    from lkm.twin import Addresses, Step
    from lkm.vm.machine import Machine

__all__ = ["History"]


class History:
    """The modules of one machine, from the frozen one that it began as; `twin` restores that again.

    What a test does by programs of the guest is not seen here; where that moved a module, nothing is told.
    `has_run` says that there were programs.
    """

    def __init__(
        self,
        decoder: Decoder,
        machine: Machine,
        twin: Callable[[], Machine],
        steps: Sequence[Step] = (),
    ) -> None:
        self.decoder = decoder
        self.twin = twin
        self._machine = machine
        self._steps = list(steps)
        self._begun = len(self._steps)
        self.has_run = False
        self._known: tuple[int, Addresses] = 0, {}

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done, in its order."""
        return tuple(self._steps)

    @property
    def looks(self) -> Area:
        """Where the modules that were loaded here can have left something.

        Nowhere to be looked at where they needed others, which stay.
        """
        from lkm import remains

        return Area(0) if self._has_needs else remains.areas(self._imports())

    @property
    def fires_later(self) -> bool:
        """Whether something that was loaded here, or was there before, may run by itself later."""
        from lkm import remains

        others = self._begun or self.has_run or self._has_needs
        return bool(others) or remains.fires_later(self._imports())

    @property
    def _own(self) -> Sequence[Step]:
        """What was done on this machine, and not on the one that it is a copy of."""
        return self._steps[self._begun :]

    @property
    def _has_needs(self) -> bool:
        from lkm.targets import Target

        needs = (step for step in self._own if not isinstance(step, Target | str))
        return any(step.own or step.others for step in needs)

    def _imports(self) -> Iterator[str]:
        from lkm.targets import Target

        targets = {step.name: step for step in self._own if isinstance(step, Target)}.values()
        return (name for target in targets for name in target.object.imports)

    def decode(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems, traced to lines of source as far as that goes."""
        return list(self.decoder(problems, self._addresses))

    def needed(self, needs: Needs) -> None:
        """These have been loaded."""
        self._steps.append(needs)

    @contextlib.contextmanager
    def loading(self, target: Target, targets: Targets) -> Iterator[None]:
        """Around the load of a module."""
        self.decoder.add(targets)
        self._steps.append(target)
        try:
            yield
        except LoadError as error:
            if error.errno != errno.EEXIST:
                self._steps.append(target.name)
            raise

    @contextlib.contextmanager
    def unloading(self, name: str) -> Iterator[None]:
        """Around the unload of a module."""
        gone = Path(name).name.partition(".ko")[0].replace("-", "_")
        try:
            yield
        except UnloadError:
            raise
        except LkmError:
            self._steps.append(gone)
            raise
        self._steps.append(gone)

    def _addresses(self) -> Addresses:
        from lkm.twin import addresses, loaded_at

        if self._known[0] != len(self._steps):
            seen: dict[str, int] = {}
            with contextlib.suppress(LkmError, OSError):
                seen = loaded_at(self._machine)
            self._known = len(self._steps), addresses(self.twin, self._steps, seen)
        return self._known[1]
