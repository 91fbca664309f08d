"""The parameters that an object declares, read from its __param section. Pure.

`struct kernel_param`, `kparam_array` and `kparam_string` of include/linux/moduleparam.h as 64-bit kernels
from 5.10 to 7.3 lay them out; pointers are found through the relocations. An object of 32 bits, or for a
machine whose relocations are not known here, has what its modinfo says alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lkm.ko.elf import Elf, Place, malformed
from lkm.params import Parameter
from lkm.params.types import TYPES, ParamType

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_parameters"]

_KERNEL_PARAM = 40
_FL_UNSAFE = 1
_FL_HWPARAM = 2
_OPS_FL_NOARG = 1
_PAGE = 4096
"""What a sysfs file can show at most, and so the longest default."""

_READABLE = ("EM_X86_64", "EM_AARCH64", "EM_RISCV")


def read_parameters(elf: Elf, modinfo: Sequence[tuple[str, str]]) -> tuple[Parameter, ...]:
    """The parameters in the order in which modinfo(8) shows them, which for gcc is the source's.

    Those of which modinfo does not know the type come last. Raises UsageError for a damaged table.
    """
    types = _named(modinfo, "parmtype")
    descriptions = _named(modinfo, "parm")
    table = elf.section("__param")
    if elf.bits != 64 or elf.machine not in _READABLE:
        names = list(types)
        found = {name: Parameter(name, array=types[name].startswith("array of")) for name in names}
    else:
        found = {} if table is None else _table(elf, table.number, table.size)
    order = [name for name in reversed(types) if name in found]
    order += [name for name in found if name not in types]
    return tuple(
        replace(found[name], type=types.get(name, ""), description=descriptions.get(name))
        for name in order
    )


def _named(modinfo: Sequence[tuple[str, str]], key: str) -> dict[str, str]:
    """name -> text of the modinfo entries `key=name:text`."""
    pairs = (value.partition(":") for tag, value in modinfo if tag == key)
    return {name: text for name, _, text in pairs}


def _table(elf: Elf, section: int, size: int) -> dict[str, Parameter]:
    entries = (Place(section, at) for at in range(0, size - _KERNEL_PARAM + 1, _KERNEL_PARAM))
    found = [_parameter(elf, entry) for entry in entries]
    return {parameter.name: parameter for parameter in found}


def _at(place: Place, offset: int) -> Place:
    return place._replace(offset=place.offset + offset)


def _target(elf: Elf, place: Place, what: str) -> Place:
    """What a pointer that must be there points to."""
    target = elf.pointer(place)
    if target is None:
        raise malformed(elf.name, f"a parameter has no {what}")
    return target


def _parameter(elf: Elf, entry: Place) -> Parameter:
    """One struct kernel_param: name 0, mod 8, ops 16, perm 24, level 26, flags 27, arg 32."""
    flags = elf.integer(_at(entry, 27), 1)
    ops = _target(elf, _at(entry, 16), "operations")
    bare = Parameter(
        name=elf.string_at(_target(elf, entry, "name")),
        perm=elf.integer(_at(entry, 24), 2),
        unsafe=bool(flags & _FL_UNSAFE),
        hwparam=bool(flags & _FL_HWPARAM),
        noarg=_noarg(elf, ops),
    )
    if ops.symbol == "param_array_ops":
        return _array(elf, bare, _target(elf, _at(entry, 32), "array"))
    kind = _kind(ops)
    if kind is None:
        return bare
    arg = _target(elf, _at(entry, 32), "variable")
    if kind.name == "string":
        return _string(elf, bare, arg)
    default = _default(elf, kind, arg)
    return replace(bare, kernel_type=kind.name, size=kind.size, default=default)


def _kind(ops: Place) -> ParamType | None:
    """The kernel's type with these operations; None for a module's own, also of a kernel type's name."""
    return TYPES.get(ops.symbol.removeprefix("param_ops_")) if ops.symbol else None


def _noarg(elf: Elf, ops: Place) -> bool | None:
    """Whether the bare name goes. The module's own operations say it in their first word, `flags`."""
    if ops.symbol == "param_array_ops":
        return False
    if ops.symbol:
        kind = _kind(ops)
        return kind.noarg if kind else None
    return bool(elf.integer(ops, 4) & _OPS_FL_NOARG)


def _string(elf: Elf, bare: Parameter, arg: Place) -> Parameter:
    """struct kparam_string: maxlen 0, string 8."""
    if arg.symbol:
        return replace(bare, kernel_type="string")
    length = elf.integer(arg, 4)
    text = elf.pointer(_at(arg, 8))
    default = None
    if text is not None and not text.symbol:
        default = elf.string_at(text, min(length, _PAGE))
    return replace(
        bare, kernel_type="string", max_length=max(length - 1, 0), size=length, default=default
    )


def _array(elf: Elf, bare: Parameter, arg: Place) -> Parameter:
    """struct kparam_array: max 0, elemsize 4, num 8, ops 16, elem 24."""
    if arg.symbol:
        return replace(bare, array=True)
    most, size = elf.integer(arg, 4), elf.integer(_at(arg, 4), 4)
    kind = _kind(_target(elf, _at(arg, 16), "operations of its elements"))
    name = kind.name if kind else None
    found = replace(bare, array=True, kernel_type=name, max_count=most, size=size)
    elements = elf.pointer(_at(arg, 24))
    if kind is None or kind.name == "string" or elements is None or elements.symbol:
        return found
    count = _count(elf, _at(arg, 8), most)
    if count is None or count > most or count * 2 > _PAGE or size != kind.size:
        return found
    texts = [_default(elf, kind, _at(elements, index * size)) for index in range(count)]
    known = [text for text in texts if text is not None]
    return replace(found, default=",".join(known)) if len(known) == count else found


def _count(elf: Elf, place: Place, most: int) -> int | None:
    """How many elements sysfs shows: the counter's first value, or all where there is no counter."""
    counter = elf.pointer(place)
    if counter is None:
        return most
    return None if counter.symbol else elf.integer(counter, 4)


def _default(elf: Elf, kind: ParamType, place: Place) -> str | None:
    """What the type's `get` would print for the variable; None for a variable of another module."""
    if place.symbol:
        return None
    if kind.name == "charp":
        text = elf.pointer(place)
        if text is None:
            return "(null)"
        return None if text.symbol else elf.string_at(text, _PAGE)
    number = elf.integer(place, kind.size, signed=kind.signed)
    if kind.base == "bool" and kind.name != "bint":
        return "Y" if bool(number) != (kind.name == "invbool") else "N"
    return f"{number:#08x}" if kind.name == "hexint" else str(number)
