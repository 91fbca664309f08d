"""Kernels: what exists (catalog), what is on this disk (store), and their compilers (toolchain).

Other parts of lkm call `store.get`; it gives a `Kernel`, fetched by `debian` or found by `tree` or `host`.
"""

from lkm.kernels.kernel import Kernel, Toolchain

__all__ = ["Kernel", "Toolchain"]
