"""The signature that is appended to a module, as the kernel and kmod read it. Pure.

The layout is `struct module_signature` of include/linux/module_signature.h, before the magic string at the
end of the file; the signature proper is a PKCS#7 SignedData (RFC 2315), walked here, never verified.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MAGIC", "Signature", "split"]

MAGIC = b"~Module signature appended~\n"

_INFO = struct.Struct(">BBBBB3xI")
_ID_TYPES = ("PGP", "X509", "PKCS#7")

_HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
}

_ALGORITHMS = {
    "1.2.840.113549.1.1.1": "rsa",
    "1.2.840.10045.4.3.1": "ecdsa",
    "1.2.840.10045.4.3.2": "ecdsa",
    "1.2.840.10045.4.3.3": "ecdsa",
    "1.2.840.10045.4.3.4": "ecdsa",
    "2.16.840.1.101.3.4.3.17": "ml-dsa-44",
    "2.16.840.1.101.3.4.3.18": "ml-dsa-65",
    "2.16.840.1.101.3.4.3.19": "ml-dsa-87",
}

_COMMON_NAME = "2.5.4.3"

_OCTETS = 0x04
_SEQUENCE = 0x30


@dataclass(frozen=True)
class Signature:
    """What an appended signature says about itself; whether it is right is not known.

    `key_id` (the certificate's serial number, or its subject key id) and `value` (the signature) are
    hex digits. What could not be read is None. `size` counts every byte after the ELF object.
    """

    id_type: str
    signer: str | None
    key_id: str | None
    hash: str | None
    algorithm: str | None
    value: str | None
    size: int


def split(data: bytes) -> tuple[bytes, Signature | None]:
    """The ELF object without its signature, and the signature; None where there is none.

    A magic string with nonsense before it is no signature, as for kmod; the kernel refuses it.
    """
    end = len(data) - len(MAGIC) - _INFO.size
    if end < 0 or not data.endswith(MAGIC):
        return data, None
    _algo, _hash, kind, signer_len, key_len, size = _INFO.unpack_from(data, end)
    start = end - size - signer_len - key_len
    if kind >= len(_ID_TYPES) or not size or start < 0:
        return data, None
    facts = _pkcs7(data[end - size : end]) if _ID_TYPES[kind] == "PKCS#7" else _NOTHING
    return data[:start], Signature(_ID_TYPES[kind], *facts, size=len(data) - start)


class _Facts(NamedTuple):
    signer: str | None
    key_id: str | None
    hash: str | None
    algorithm: str | None
    value: str | None


_NOTHING = _Facts(None, None, None, None, None)


_PKCS7_LIMIT = 1 << 16
"""Bytes of a SignedData that is read; one by ML-DSA-87 has some 5 kB."""


def _pkcs7(der: bytes) -> _Facts:
    """The first SignerInfo of a SignedData; nothing where the bytes are not one."""
    if len(der) > _PKCS7_LIMIT:
        return _NOTHING
    try:
        content = _items(der)[0]
        if content.tag != _SEQUENCE:
            return _NOTHING
        explicit = _items(content.body)[1]
        signed = _items(_items(explicit.body)[0].body)
        return _signer_info(_items(_items(signed[-1].body)[0].body))
    except (IndexError, ValueError):
        return _NOTHING


def _signer_info(items: list[_Item]) -> _Facts:
    """SignerInfo: version, who, digest algorithm, [0] attributes, signature algorithm, signature."""
    who, digest = items[1], items[2]
    rest = [item for item in items[3:] if item.tag in (_SEQUENCE, _OCTETS)]
    algorithm = _oid_of(rest[0])
    if who.tag == _SEQUENCE:
        issuer, serial = _items(who.body)[:2]
        signer, key = _name(issuer.body), serial.body.lstrip(b"\0")
    else:
        signer, key = None, who.body
    hash_oid = _oid_of(digest)
    return _Facts(
        signer,
        key.hex(),
        _HASHES.get(hash_oid, hash_oid),
        _ALGORITHMS.get(algorithm, algorithm),
        rest[1].body.hex(),
    )


def _name(issuer: bytes) -> str | None:
    """The first common name, or else the last attribute, as kmod's libkmod-signature.c chooses."""
    chosen = None
    for relative in _items(issuer):
        for attribute in _items(relative.body):
            kind, value = _items(attribute.body)[:2]
            chosen = value.body.decode("utf-8", "surrogateescape")
            if _oid(kind.body) == _COMMON_NAME:
                return chosen
    return chosen


class _Item(NamedTuple):
    tag: int
    body: bytes


def _items(der: bytes) -> list[_Item]:
    """The tag-length-values of DER, one after the other; ValueError or IndexError for anything else."""
    found = []
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        if at + length > len(der):
            raise ValueError("DER is cut off")
        found.append(_Item(tag, der[at : at + length]))
        at += length
    return found


def _oid_of(algorithm: _Item) -> str:
    return _oid(_items(algorithm.body)[0].body)


def _oid(body: bytes) -> str:
    first = body[0]
    numbers = [min(first // 40, 2), first - 40 * min(first // 40, 2)]
    value = 0
    for byte in body[1:32]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(str(number) for number in numbers)
