"""Sign a module with the kernel's own sign-file, in place or into another file.

Without --key and --cert the key is a development key of yours, which is made the first time.
$KBUILD_SIGN_PIN is the passphrase of a key that has one.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.cli.common import add_json, kernel_named
from lkm.cli.render import Style, print_json, visible, working
from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.progress import Progress
    from lkm.signing import Key, Signed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `lkm sign` takes."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a .ko, not compressed")
    parser.add_argument("--key", metavar="PEM", type=Path, help="the private key")
    parser.add_argument(
        "--cert",
        metavar="X509",
        type=Path,
        help="its certificate, in PEM or DER; it may be in PEM too",
    )
    parser.add_argument(
        "--hash",
        metavar="NAME",
        help="sha256, sha512, ... (default: the kernel's CONFIG_MODULE_SIG_HASH)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, help="write OUT and leave FILE as it is"
    )
    parser.add_argument(
        "-k",
        "--kernel",
        metavar="K",
        help="whose sign-file (default: the kernel that FILE was built for, where it is on this disk)",
    )
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """`lkm sign`."""
    from lkm.signing import sign

    _check_pair(arguments)
    with working(quiet=arguments.json) as progress:
        kernel = _kernel(arguments, progress)
        signed = sign(
            arguments.file,
            kernel,
            _key(arguments, kernel, progress),
            digest=arguments.hash,
            output=arguments.output,
        )
    if arguments.json:
        print_json(signed.to_dict())
    else:
        print("\n".join(_told(signed, Style(sys.stdout), is_ours=arguments.key is None)))
    return 0


def _check_pair(arguments: argparse.Namespace) -> None:
    if (arguments.key is None) != (arguments.cert is None):
        missing, given = ("--cert", "--key") if arguments.key else ("--key", "--cert")
        raise UsageError(
            f"{given} without {missing}",
            hint="give both, the same file twice if it holds both, or neither",
        )


def _kernel(arguments: argparse.Namespace, progress: Progress) -> Kernel:
    """The kernel that was asked for, or the module's own, or the default."""
    from lkm import ko
    from lkm.kernels import store

    module = ko.read(arguments.file)
    if arguments.kernel or module.release not in {each.release for each in store.installed()}:
        return kernel_named(arguments.kernel, progress)
    return store.get(module.release, fetch=False)


def _key(arguments: argparse.Namespace, kernel: Kernel, progress: Progress) -> Key:
    from lkm.signing import development_key, key_of

    if arguments.key:
        return key_of(arguments.key, arguments.cert)
    return development_key(kernel.toolchain, progress=progress)


def _told(signed: Signed, style: Style, *, is_ours: bool) -> Iterator[str]:
    if signed.key.made:
        yield f"made a development key: {signed.key.private}"
    signer = visible(signed.signature.signer or "a key without a name")
    instead = ", in place of the signature that it had" if signed.replaced else ""
    yield f"signed {signed.path}: {signed.signature.hash}, {signer}{instead}"
    yield from (style.yellow(f"warning: {line}") for line in signed.warnings)
    certificate = shlex.quote(str(signed.key.certificate))
    if signed.key.made:
        yield from _ENROL.format(certificate=certificate).splitlines()
    elif is_ours:
        yield style.dim(f"a kernel gets to know the key by: sudo mokutil --import {certificate}")


_ENROL = """
No kernel knows this key yet. Such a kernel loads the module all the same and taints itself (E):
  module verification failed: signature and/or required key missing - tainting kernel
or, with module.sig_enforce=1, refuses it with EKEYREJECTED:
  Loading of module with unavailable key is rejected
On a computer that starts with UEFI Secure Boot you can make its kernel know the key:
  sudo mokutil --import {certificate}
Choose a password, reboot, and in MokManager: Enroll MOK, Continue, Yes, the password, Reboot."""
