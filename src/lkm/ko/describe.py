"""Everything that is known of a kernel object, as one JSON object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkm.ko.object import KernelObject
    from lkm.params import Parameter

__all__ = ["describe"]

_FROM_MODINFO = (
    "license", "description", "authors", "version", "srcversion", "vermagic", "release", "vermagic_flags",
    "depends", "softdeps", "aliases", "firmware", "namespaces", "intree", "retpoline",
)  # fmt: skip


def describe(module: KernelObject) -> dict[str, Any]:
    """All facts, those too that properties read out of modinfo, as docs/reference/json.md lists them."""
    return {
        **module.to_dict(),
        "parameters": [_parameter(each) for each in module.parameters],
        **{name: getattr(module, name) for name in _FROM_MODINFO},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {**vars(parameter), "c_type": parameter.c_type}
