"""Module signatures, made by the kernel's own scripts/sign-file, and the development key to make them with.

    key = development_key(kernel.toolchain)
    signed = sign(Path("drv.ko"), kernel, key)

sign-file and openssl run in the kernel's toolchain root, without network, and see nothing but the key and a
copy of the module.
"""

from lkm.signing.keys import Key, development_key, key_of
from lkm.signing.signer import HASHES, Signed, hash_of, sign

__all__ = ["HASHES", "Key", "Signed", "development_key", "hash_of", "key_of", "sign"]
