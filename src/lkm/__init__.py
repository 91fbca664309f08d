"""Build, load and judge Linux kernel modules, on real kernels, in machines that are thrown away."""

from lkm._version import VERSION as __version__

__all__ = ["__version__"]
