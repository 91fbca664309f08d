"""From a .ko with debug info and an address to functions, files and lines, inlined calls included. Pure.

    info = DebugInfo(ko.read_image(path), path.name)
    info.places("crash_init", 0x1d, 0x1000, exact=False)

Reads DWARF 2 to 5 with a reader of its own, which takes what a call trace needs and leaves the rest.
"""

from lkm.symbolize.debuginfo import DebugInfo, Location
from lkm.symbolize.place import Place

__all__ = ["DebugInfo", "Location", "Place"]
