"""The text of modinfo(8): kmod's order and layout, from a KernelObject. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkm.ko import KernelObject
    from lkm.ko.signature import Signature

__all__ = ["render"]

_WIDTH = 16
_OCTETS_A_LINE = 20


def render(
    module: KernelObject, filename: str, *, field: str | None = None, separator: str = "\n"
) -> str:
    """What `modinfo filename` prints; with `field` what `-F field` prints, with `\\0` what `-0` prints.

    The layout is that of kmod's tools/modinfo.c, 28 to 34, built with libcrypto; for a key of more than 15
    characters that of 34, which does not pad its value. Bytes that are not UTF-8 are surrogate escapes.
    """
    entries = [*module.modinfo, *_signature(module.signature)]
    if field == "filename":
        lines = [filename]
    elif field == "parm":
        lines = list(_parm_lines(entries, bare=True))
    elif field is not None:
        lines = [value for key, value in entries if key == field]
    else:
        lines = [_line("filename", filename)]
        lines += [
            f"{key}={value}" if separator == "\0" else _line(key, value)
            for key, value in entries
            if key not in ("parm", "parmtype")
        ]
        lines += [_line("parm", text) for text in _parm_lines(entries, bare=False)]
    return "".join(line + separator for line in lines)


def _line(key: str, value: str) -> str:
    return f"{key}:".ljust(_WIDTH) + value


def _signature(signature: Signature | None) -> Iterator[tuple[str, str]]:
    """Nothing for one whose signer is told by key id alone, as kmod has it."""
    if signature is None or signature.signer is None:
        return
    yield "sig_id", signature.id_type
    yield "signer", signature.signer
    yield "sig_key", _octets(signature.key_id or "")
    yield "sig_hashalgo", signature.hash or ""
    yield "signature", _octets(signature.value or "")


def _octets(digits: str) -> str:
    """`AB:CD:...`, 20 octets a line."""
    pairs = [digits[at : at + 2].upper() for at in range(0, len(digits), 2)]
    lines = [pairs[at : at + _OCTETS_A_LINE] for at in range(0, len(pairs), _OCTETS_A_LINE)]
    return ":\n\t\t".join(":".join(line) for line in lines)


def _parm_lines(entries: list[tuple[str, str]], *, bare: bool) -> Iterator[str]:
    """One for each parameter, the last first, as kmod's list has them; `bare` is the form of -p."""
    names: dict[str, dict[str, str]] = {}
    for key, value in entries:
        name, colon, text = value.partition(":")
        if key in ("parm", "parmtype") and colon:
            names.setdefault(name, {})[key] = text
    for name, texts in reversed(names.items()):
        if "parm" not in texts:
            yield f"{name}: ({texts['parmtype']})" if bare else f"{name}:{texts['parmtype']}"
        elif "parmtype" in texts:
            yield f"{name}:{texts['parm']} ({texts['parmtype']})"
        else:
            yield f"{name}:{texts['parm']}"
