"""What Debian's kernels say to a module of lkm's development key under UEFI, with the key enrolled or not.

    python -m bench.secure_boot [DIRECTORY] [-k K ...]

Each kernel is booted by OVMF in QEMU, with Secure Boot on or off. shim and MokManager are left out: the
variable in which shim hands the enrolled keys to the kernel, MokListRT, is written beforehand. A boot takes 10
to 25 s without KVM. It needs Debian's packages ovmf, openssl and sbsigntool, and virt-fw-vars of the Python
package virt-firmware.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.signed_kernel import Modules, make_modules, run
from lkm.errors import errno_name
from lkm.kernels import store
from lkm.kernels.kernel import Kernel
from lkm.vm.guest import busybox_binary
from lkm.vm.initramfs import Entry, archive

CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SHIM_LOCK = "605dab50-e046-4300-abb6-3dd810dd8b23"
"""EFI_SHIM_LOCK_GUID of include/linux/efi.h."""
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
"""EFI_CERT_X509_GUID of include/linux/efi.h."""
OWNER = uuid.UUID("6c6b6d00-0000-4000-8000-000000000000")
NON_VOLATILE_BOOT_RUNTIME = 7

INIT = b"""#!/bin/busybox sh
for directory in proc sys; do /bin/busybox mkdir -p /$directory; done
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
echo; echo THE BEGINNING
for file in ours others unsigned; do
    /bin/busybox insmod /$file.ko
    echo "RESULT $file $? $(/bin/busybox cat /sys/module/hello/taint)"
    /bin/busybox rmmod hello
done
/bin/busybox grep -E 'lkm development key|[.]machine|[.]platform' /proc/keys
/bin/busybox dmesg | /bin/busybox grep -E 'is rejected|module loading|verification failed|MokListRT'
echo THE END
/bin/busybox poweroff -f
"""


@dataclass(frozen=True)
class Setting:
    """What the firmware is told."""

    name: str
    secure: bool
    enrolled: bool


SETTINGS = (
    Setting("Secure Boot, key enrolled", secure=True, enrolled=True),
    Setting("Secure Boot, key not enrolled", secure=True, enrolled=False),
    Setting("no Secure Boot, key enrolled", secure=False, enrolled=True),
)


def signature_list(certificate: bytes) -> bytes:
    """An EFI_SIGNATURE_LIST of one X.509 certificate in DER (UEFI 2.10, 32.4.1)."""
    size = len(OWNER.bytes_le) + len(certificate)
    return (
        X509.bytes_le + struct.pack("<III", 28 + size, 0, size) + OWNER.bytes_le + certificate
    )  # fmt: skip


def variables(home: Path, setting: Setting, certificate: Path) -> Path:
    """A store of EFI variables; the platform's own key is `home`/platform.pem."""
    made = home / "variables.fd"
    command: list[str | Path] = ["virt-fw-vars", "--input", VARIABLES, "--output", made]
    if setting.secure:
        command += ["--enroll-cert", home / "platform.pem", "--secure-boot"]
    if setting.enrolled:
        mok = {
            "name": "MokListRT",
            "guid": SHIM_LOCK,
            "attr": NON_VOLATILE_BOOT_RUNTIME,
            "data": signature_list(certificate.read_bytes()).hex(),
        }
        (home / "mok.json").write_text(json.dumps({"version": 2, "variables": [mok]}))
        command += ["--set-json", home / "mok.json"]
    run(*command, cwd=home)
    return made


def initrd(kernel: Kernel, modules: Modules, home: Path) -> Path:
    """busybox, the modules, and an init that tries them."""
    entries = [
        Entry("bin", 0o040755),
        Entry("dev", 0o040755),
        Entry("dev/console", 0o020600, device=(5, 1)),
        Entry("init", 0o100755, INIT),
        Entry("bin/busybox", 0o100755, busybox_binary(kernel.toolchain).read_bytes()),
    ]
    for name in ("ours", "others", "unsigned"):
        entries.append(Entry(f"{name}.ko", 0o100644, getattr(modules, name).read_bytes()))
    made = home / "initrd"
    made.write_bytes(archive(entries))
    return made


def booted(image: Path, store_: Path, initramfs: Path) -> str:
    """What the init printed in one boot by OVMF."""
    argv = [
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-M", "q35,smm=on",
        "-m", "512M", "-no-reboot", "-serial", "stdio",
        "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-drive", f"if=pflash,format=raw,unit=0,file={CODE},readonly=on",
        "-drive", f"if=pflash,format=raw,unit=1,file={store_}",
        "-kernel", str(image), "-initrd", str(initramfs), "-append", "console=ttyS0 panic=-1 quiet",
    ]  # fmt: skip
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300, check=True
    )
    console = done.stdout.decode(errors="replace").replace("\r", "")
    _, begin, rest = console.partition("THE BEGINNING\n")
    said, end, _ = rest.partition("THE END")
    assert begin, console
    assert end, console
    return said


def report(title: str, console: str) -> None:
    """Print what became of each module, where the key is, and the kernel's lines."""
    print(title)
    for name, number, taint in re.findall(r"^RESULT (\w+) (\d+) ?(\w*)$", console, re.MULTILINE):
        print(f"  {name:<10} {errno_name(int(number)) if int(number) else 'ok':<14} {taint or '-'}")
    lines = re.findall(r"^\w+ .* keyring +(\..*)|^\[ *[\d.]+\] (.*)", console, re.MULTILINE)
    for line in dict.fromkeys(ring or said for ring, said in lines):
        print(f"    {line}")


def main() -> int:
    """Boot each kernel in each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", type=Path, default=Path("/var/tmp/lkm-secure-boot"))
    parser.add_argument("-k", "--kernel", action="append", metavar="K")
    arguments = parser.parse_args()
    home: Path = arguments.directory.absolute()
    home.mkdir(parents=True, exist_ok=True)
    names = ("-keyout", "platform.key", "-out", "platform.pem", "-subj", "/CN=platform")
    run("openssl", "req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", *names, cwd=home)
    for name in arguments.kernel or [None]:
        kernel = store.get(name)
        modules = make_modules(kernel.release, home / kernel.release, home / "keys")
        image = home / "image"
        pair = ("--key", "platform.key", "--cert", "platform.pem")
        run("sbsign", *pair, "--output", image, kernel.image, cwd=home)
        initramfs = initrd(kernel, modules, home)
        for setting in SETTINGS:
            console = booted(image, variables(home, setting, modules.certificate), initramfs)
            report(f"{kernel.release}: {setting.name}", console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
