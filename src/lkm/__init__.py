"""Build, load and judge Linux kernel modules, on real kernels, in machines that are thrown away."""

from lkm._version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
