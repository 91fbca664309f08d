"""Kernel objects: what a .ko says about itself. Reads bytes, runs nothing."""

from lkm.ko.describe import describe
from lkm.ko.object import Export, KernelObject, Parameter, Signature, parse, read, read_image

__all__ = [
    "Export",
    "KernelObject",
    "Parameter",
    "Signature",
    "describe",
    "parse",
    "read",
    "read_image",
]
