"""Lists of address ranges: .debug_ranges (DWARF 3 and 4), .debug_rnglists (DWARF 5), .debug_aranges. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lkm.symbolize.forms import Sizes, uleb
from lkm.symbolize.sections import Area, DebugSections

__all__ = ["Range", "ranges_at", "ranges_indexed", "unit_ranges"]

Range = tuple[int, int]
"""From and to, the latter excluded."""

Indexed = Callable[[int], int]
"""The address of that number in the unit's part of .debug_addr."""


def ranges_at(
    sections: DebugSections, sizes: Sizes, at: int, base: int, indexed: Indexed
) -> list[Range]:
    """The list at an offset; `base` is what offsets in it count from."""
    if sizes.version >= 5:
        found = _rnglist(sections["rnglists"], sizes.address, at, base, indexed)
    else:
        found = _pairs(sections["ranges"], sizes.address, at, base)
    return [(low, high) for low, high in found if low < high]


def ranges_indexed(
    sections: DebugSections, sizes: Sizes, lists: int, index: int, base: int, indexed: Indexed
) -> list[Range]:
    """The list of that number in the table of offsets at `lists` (DW_FORM_rnglistx)."""
    at = lists + sections["rnglists"].number(lists + index * sizes.offset, sizes.offset)
    return ranges_at(sections, sizes, at, base, indexed)


def _pairs(area: Area, size: int, at: int, base: int) -> Iterator[Range]:
    selects = (1 << 8 * size) - 1
    while at + 2 * size <= len(area.data):
        raw = area.number(at, size)
        low, high = area.address(at, size), area.address(at + size, size)
        at += 2 * size
        if low == high == 0:
            return
        if raw == selects:
            base = high
        else:
            yield (low, high) if low >> 32 else (base + low, base + high)


def _rnglist(area: Area, size: int, at: int, base: int, indexed: Indexed) -> Iterator[Range]:
    data = area.data
    while at < len(data):
        kind, at = data[at], at + 1
        if kind == 0:  # DW_RLE_end_of_list
            return
        if kind in (1, 2, 3, 4):  # base_addressx, startx_endx, startx_length, offset_pair
            first, at = uleb(data, at)
            second, at = (0, at) if kind == 1 else uleb(data, at)
            if kind == 1:
                base = indexed(first)
            elif kind == 4:
                yield base + first, base + second
            else:
                low = indexed(first)
                yield low, indexed(second) if kind == 2 else low + second
        elif kind in (5, 6, 7):  # base_address, start_end, start_length
            low, at = area.address(at, size), at + size
            if kind == 5:
                base = low
            elif kind == 6:
                yield low, area.address(at, size)
                at += size
            else:
                length, at = uleb(data, at)
                yield low, low + length
        else:
            raise ValueError(f"DW_RLE {kind}")


def unit_ranges(area: Area) -> Iterator[tuple[Range, int]]:
    """The ranges in .debug_aranges, each with its unit's offset in .debug_info."""
    at = 0
    while at + 12 <= len(area.data):
        length, offset, body = area.number(at, 4), 4, at + 4
        if length == 0xFFFFFFFF:
            length, offset, body = area.number(at + 4, 8), 8, at + 12
        unit = area.address(body + 2, offset)
        size = area.data[body + 2 + offset]
        if size not in (4, 8):
            raise ValueError(f"addresses of {size} bytes")
        end = body + length
        row = body + 4 + offset
        row += -(row - at) % (2 * size)  # rows are aligned to their size
        while row + 2 * size <= end:
            low, count = area.address(row, size), area.number(row + size, size)
            if count:
                yield (low, low + count), unit
            row += 2 * size
        at = end
