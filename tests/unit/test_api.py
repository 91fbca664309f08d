"""`import lkm`: the names are those it says, each is documented, and none costs anything before it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import lkm
from lkm.vm.file import GuestMap
from lkm.vm.path import GuestStat

OBJECTS = [getattr(lkm, name) for name in lkm.__all__ if name != "__version__"]
HEAVY = (
    "asyncio",
    "elftools",
    "multiprocessing",
    "pytest",
    "rich",
    "socket",
    "subprocess",
    "tempfile",
)


def public(kind: type) -> Iterator[tuple[str, Any]]:
    """The methods and properties of a class and its bases of lkm's, by name."""
    for owner in kind.__mro__:
        if owner.__module__.startswith("lkm"):
            for name, member in vars(owner).items():
                function = isinstance(member, (property, staticmethod)) or callable(member)
                if function and not name.startswith("_"):
                    yield f"{kind.__name__}.{name}", member


def test_all_is_sorted_and_is_what_can_be_had() -> None:
    assert lkm.__all__ == sorted(lkm.__all__, key=lambda name: (not name.isupper(), name))
    homes = [name for names in lkm._HOMES.values() for name in names]
    assert sorted(homes) == sorted(set(lkm.__all__) - {"__version__"})
    assert dir(lkm) == sorted(lkm.__all__)


@pytest.mark.parametrize("home", lkm._HOMES)
def test_a_name_comes_from_the_module_that_makes_it_public(home: str) -> None:
    for name in lkm._HOMES[home]:
        thing = getattr(lkm, name)
        assert thing is getattr(sys.modules[home], name)
        assert name in sys.modules[home].__all__


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lkm' has no attribute 'nonsense'"):
        _ = lkm.nonsense


@pytest.mark.parametrize("thing", [*OBJECTS, GuestMap, GuestStat], ids=lambda thing: thing.__name__)
def test_every_public_name_says_what_it_gives(thing: Any) -> None:
    # A dataclass without one is given its signature.
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{thing.__name__}(")
    if inspect.isclass(thing):
        bare = [name for name, member in public(thing) if not member.__doc__]
        assert not bare


def test_every_argument_and_result_has_its_type() -> None:
    for thing in OBJECTS:
        members = [member for _, member in public(thing)] if inspect.isclass(thing) else [thing]
        for member in members:
            function = member.fget if isinstance(member, property) else member
            assert "return" in function.__annotations__, function


def test_importing_lkm_imports_nothing_else() -> None:
    script = "import sys, lkm; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.split()
    assert {name for name in loaded if name.startswith("lkm")} == {"lkm", "lkm._version"}
    assert not set(HEAVY) & set(loaded)


def test_every_error_is_of_one_tree() -> None:
    for thing in OBJECTS:
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            assert issubclass(thing, lkm.LkmError)
