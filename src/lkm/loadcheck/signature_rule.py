"""module_sig_check(): what becomes of an appended signature before anything else is looked at.

Source: kernel/module/signing.c and kernel/module_signature.c, the same from 5.10 to 7.x. Whether a signature
is right cannot be computed here (the keys are in the kernel's image), but its owner's own modules are known.
"""

from __future__ import annotations

import errno
import re
import struct
from typing import TYPE_CHECKING

from lkm.ko.signature import MAGIC, Signature, split
from lkm.loadcheck.findings import Finding, Severity

if TYPE_CHECKING:
    from lkm.loadcheck.facts import KernelFacts

__all__ = ["check_signature"]

_INFO = struct.Struct(">BBBBB3sI")
_PKCS7 = 2
_REJECTED = 129
"""EKEYREJECTED, which Python's errno names on Linux alone."""


def check_signature(data: bytes, facts: KernelFacts) -> tuple[int, Finding | None]:
    """How many bytes of `data` the loader goes on with, and what it says of the signature."""
    if "MODULE_SIG" not in facts.options:
        return len(data), None
    if len(data) <= len(MAGIC) or not data.endswith(MAGIC):
        return len(data), _enforced(facts, "unsigned module")
    length = len(data) - len(MAGIC)
    if length <= _INFO.size:
        return length, _nonsense("there are no facts about it before the magic string")
    algo, digest, kind, signer, key, padding, size = _INFO.unpack_from(data, length - _INFO.size)
    if size >= length - _INFO.size:
        return length, _nonsense(f"it is said to have {size} bytes")
    if kind != _PKCS7:
        return length, _enforced(facts, "module with unsupported crypto")
    if algo or digest or signer or key or any(padding):
        return length, _nonsense("fields are set that PKCS#7 leaves empty")
    return length - size - _INFO.size, _verified(data, facts)


def _nonsense(why: str) -> Finding:
    hint = "sign it again, or take the signature off: strip --strip-debug"
    return Finding("a damaged signature", why, errno=errno.EBADMSG, hint=hint)


def _enforced(facts: KernelFacts, what: str) -> Finding | None:
    if not facts.sig_enforced:
        return None
    return Finding(
        f"an {what}" if what.startswith("un") else f"a {what}",
        f"{facts.release} takes only modules that a key of its keyring signed",
        errno=_REJECTED,
        dmesg=(f"Loading of {what} is rejected",),
        hint="sign it with a key that the kernel knows",
    )


def _verified(data: bytes, facts: KernelFacts) -> Finding | None:
    content, ours = split(data)
    if ours is None or ours.key_id is None:
        return _nonsense("it is no PKCS#7 message")
    if facts.signature is None or facts.signature.key_id != ours.key_id:
        # ENOKEY, as far as this disk tells: the keys in the image are not known.
        return _enforced(facts, "module with unavailable key")
    return _by_the_kernels_key(content, ours, facts)


def _by_the_kernels_key(content: bytes, ours: Signature, facts: KernelFacts) -> Finding | None:
    """One of the kernel's own, perhaps changed after it was signed."""
    found = re.search(rb"\0name=([\w-]+)\0", content)
    name = found[1].decode().replace("-", "_") if found else ""
    own = facts.own_module(name)
    original, theirs = split(own) if own else (b"", None)
    if original == content and theirs == ours:
        return None
    known = theirs is not None and theirs.value == ours.value
    return Finding(
        "changed after it was signed" if known else "signed with the kernel's own key",
        f"it is not the {name} that this signature is for"
        if known
        else "and none of its modules: whether the signature is right is not known",
        Severity.REFUSES if known else Severity.MAY_REFUSE,
        _REJECTED,
        hint="take the signature off: strip --strip-debug",
    )
