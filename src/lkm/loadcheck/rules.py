"""What the loader asks of a module whose file is whole, one function a step of load_module().

Sources: kernel/module.c of 5.10, kernel/module/main.c of 6.1 to 7.x, kernel/module/version.c,
kernel/module/sysfs.c. Which version has what, lkm.loadcheck.changes says.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.loadcheck.case import Case
from lkm.loadcheck.changes import CONTENTS_CHECKED, MODULE_NAMESPACES
from lkm.loadcheck.findings import Finding, Severity
from lkm.loadcheck.image import SHT_NOBITS
from lkm.loadcheck.vermagic import vermagic_differs

__all__ = [
    "check_export_versions",
    "check_exports",
    "check_licence",
    "check_modinfo",
    "check_module_namespaces",
    "check_name",
    "check_percpu",
    "check_struct_size",
    "check_struct_version",
    "check_sysfs_name",
    "check_write_and_exec",
    "version_problem",
]

_THIS = ".gnu.linkonce.this_module"
_WRITE_EXEC = 0x5
_PERCPU_RESERVE = 8 << 10
"""PERCPU_MODULE_RESERVE of include/linux/percpu.h, bytes for the per-CPU data of all modules."""


def version_problem(case: Case, symbol: str, crc: int | None) -> str | None:
    """What check_version() would say of a symbol whose CRC is `crc`; None where it lets it pass.

    An empty string is a refusal without a word.
    """
    if crc is None or "MODVERSIONS" not in case.facts.options:
        return None
    theirs = _versions(case)
    if theirs is None:
        return None if "MODULE_FORCE_LOAD" in case.facts.options else ""
    if symbol in theirs:
        words = f"{case.image.name}: disagrees about version of symbol {symbol}"
        return None if theirs[symbol] == crc else words
    if not case.facts.strict_versions:
        return None
    extended = "extended " if theirs is case.image.extended_versions else ""
    return f"{case.image.name}: no {extended}symbol version for {symbol}"


def _versions(case: Case) -> dict[str, int] | None:
    if CONTENTS_CHECKED.is_in(case.facts.version) and case.image.extended_versions is not None:
        return case.image.extended_versions
    return case.image.versions


def check_struct_version(case: Case) -> Iterator[Finding]:
    """check_modstruct_version(): the CRC of module_layout stands for all structures of the loader."""
    symbol = case.facts.symbols.get("module_layout")
    problem = version_problem(case, "module_layout", symbol.crc) if symbol else None
    if problem is None:
        return
    release = (case.image.first("vermagic") or "").partition(" ")[0]
    what, why = "no symbol versions", f"{case.facts.release} wants them for every symbol"
    if "disagrees" in problem:
        same = release == case.facts.release
        what = "built against other headers" if same else f"built for {release or 'another kernel'}"
        why = f"its CRC of module_layout is not that of {case.facts.release}: other structures or options"
    yield Finding(
        what,
        why,
        errno=errno.ENOEXEC,
        dmesg=(problem,) if problem else (),
        hint=f"build it for this kernel: lkm build SOURCE -k {case.facts.release}",
    )


def check_modinfo(case: Case) -> Iterator[Finding]:
    """check_modinfo(): version magic, livepatch."""
    options, image = case.facts.options, case.image
    vermagic = image.first("vermagic")
    if vermagic is None:
        yield _no_vermagic(case)
    elif finding := vermagic_differs(case, vermagic):
        yield finding
        return
    if image.first("livepatch") is not None and "LIVEPATCH" not in options:
        yield Finding(
            "a livepatch module",
            "the kernel is built without CONFIG_LIVEPATCH",
            errno=errno.ENOEXEC,
            dmesg=(
                f"{case.name}: module is marked as livepatch module, but livepatch support is disabled",
            ),
        )
    if options & {"RETPOLINE", "MITIGATION_RETPOLINE"} and image.first("retpoline") is None:
        yield Finding(
            "built without retpolines",
            "the kernel has them, and one module without undoes their purpose",
            Severity.WARNS,
            dmesg=(f"{case.name}: loading module not compiled with retpoline compiler.",),
            hint="build it with the kernel's own flags: lkm build SOURCE",
        )


def _no_vermagic(case: Case) -> Finding:
    if "MODULE_FORCE_LOAD" not in case.facts.options:
        why = "the kernel does not force-load (CONFIG_MODULE_FORCE_LOAD)"
        return Finding("no version magic", why, errno=errno.ENOEXEC, hint="build it again")
    return Finding(
        "no version magic",
        "nothing says which kernel it was built for; this kernel loads it all the same and is tainted",
        Severity.WARNS,
        dmesg=(f"{case.name}: bad vermagic: kernel tainted.",),
        hint="build it again",
    )


def check_struct_size(case: Case) -> Iterator[Finding]:
    """What nobody checked before 6.4: the kernel goes on with a structure that is not one."""
    image, wanted = case.image, case.facts.module_size
    section = image.sections[image.named(_THIS)]
    size = 0 if section.type == SHT_NOBITS else section.size
    if size == wanted and image.section_names.count(_THIS) == 1:
        return
    if wanted is not None or not size or image.section_names.count(_THIS) > 1:
        yield Finding(
            "a damaged struct module",
            f"it has {size} bytes, not {wanted or 'these'}; this kernel does not check, and may oops",
            Severity.MAY_REFUSE,
            errno.ENOEXEC,
            hint="build it again",
        )


def check_name(case: Case) -> Iterator[Finding]:
    """add_unformed_module(): a loaded module of the same name."""
    if case.taken():
        yield Finding(
            f"{case.name} is loaded already",
            "no two modules have the same name",
            errno=errno.EEXIST,
            hint=f"lkm rmmod {case.name}",
        )


def check_write_and_exec(case: Case) -> Iterator[Finding]:
    """module_enforce_rwx_sections()."""
    if "STRICT_MODULE_RWX" not in case.facts.options:
        return
    for index, section in enumerate(case.image.sections):
        if section.flags & _WRITE_EXEC == _WRITE_EXEC:
            name = case.image.section_names[index]
            yield Finding(
                f"section {name} is writable and executable",
                "the kernel keeps code read-only (CONFIG_STRICT_MODULE_RWX)",
                errno=errno.ENOEXEC,
                dmesg=(
                    f"{case.name}: section {name} (index {index}) has invalid WRITE|EXEC flags",
                ),
            )
            return


def check_licence(case: Case) -> Iterator[Finding]:
    """module_license_taint_check(): no refusal, but GPL-only symbols are out of reach from here on."""
    if case.proprietary:
        licence = case.image.first("license")
        yield Finding(
            f"the licence {licence!r} taints the kernel"
            if licence
            else "no licence: it taints the kernel",
            "it is not one that the kernel counts as GPL (include/linux/license.h)",
            Severity.WARNS,
            dmesg=(f"{case.name}: module license '{licence or 'unspecified'}' taints kernel.",),
            hint='MODULE_LICENSE("GPL"), if it is',
        )


def check_percpu(case: Case) -> Iterator[Finding]:
    """percpu_modalloc(): static per-CPU variables come out of a small reserve."""
    size = case.image.sections[case.image.named(".data..percpu")].size
    if size > _PERCPU_RESERVE and "SMP" in case.facts.options:
        certain = "MEM_ALLOC_PROFILING" not in case.facts.options
        yield Finding(
            f"{size} bytes of per-CPU variables",
            f"all modules together have {_PERCPU_RESERVE} (PERCPU_MODULE_RESERVE)",
            Severity.REFUSES if certain else Severity.MAY_REFUSE,
            errno.ENOMEM,
            (f"{case.name}: Could not allocate {size} bytes percpu data",),
            "allocate them at run time: alloc_percpu()",
        )


def check_export_versions(case: Case) -> Iterator[Finding]:
    """check_export_symbol_versions(): exports without CRCs, where the kernel has them."""
    image, options = case.image, case.facts.options
    pairs = (("__ksymtab", "__kcrctab"), ("__ksymtab_gpl", "__kcrctab_gpl"))
    if "MODVERSIONS" not in options or not any(
        image.named(exports) and not image.named(crcs) for exports, crcs in pairs
    ):
        return
    forced = "MODULE_FORCE_LOAD" in options
    yield Finding(
        "no versions of what it exports",
        "the kernel loads it all the same and is tainted"
        if forced
        else "the kernel does not force-load (CONFIG_MODULE_FORCE_LOAD)",
        Severity.WARNS if forced else Severity.REFUSES,
        None if forced else errno.ENOEXEC,
        (f"{case.name}: no versions for exported symbols: kernel tainted.",) if forced else (),
        f"build it for this kernel: lkm build SOURCE -k {case.facts.release}",
    )


def check_module_namespaces(case: Case) -> Iterator[Finding]:
    """setup_modinfo(): nobody imports a namespace that names its users."""
    for key, value in case.image.modinfo:
        if (
            key == "import_ns"
            and value.startswith("module:")
            and MODULE_NAMESPACES.is_in(case.facts.version)
        ):
            yield Finding(
                f"it imports the namespace {value}",
                "such a namespace names the modules that may use it, and is never imported",
                errno=errno.EPERM,
                dmesg=(f"{case.name}: module tries to import module namespace: {value}",),
                hint=f'remove MODULE_IMPORT_NS("{value}")',
            )
            return


def check_exports(case: Case) -> Iterator[Finding]:
    """verify_exported_symbols(): the first that somebody exports already."""
    for name in case.image.exports:
        if symbol := case.find(name):
            owner = symbol.module or "kernel"
            yield Finding(
                f"it exports {name}, which {owner} exports already",
                "a symbol has one owner",
                errno=errno.ENOEXEC,
                dmesg=(f"{case.name}: exports duplicate symbol {name} (owned by {owner})",),
                hint=f"lkm rmmod {owner}" if symbol.module else "give it another name",
            )
            return


def check_sysfs_name(case: Case) -> Iterator[Finding]:
    """mod_sysfs_init(): /sys/module/NAME may belong to something that is built in."""
    if case.facts.is_built_in(case.name):
        yield Finding(
            f"the name {case.name} belongs to something built into the kernel",
            f"it is refused where /sys/module/{case.name} is there, which no file tells",
            Severity.MAY_REFUSE,
            errno.EINVAL,
            (f"{case.name}: module is already loaded",),
            "give it another name",
        )
