"""The guest's first root: a newc cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["DIRECTORIES", "Entry", "archive", "contents"]

DIRECTORIES = (
    "bin", "dev", "etc", "lkm", "lkm/boot", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
    "usr/bin", "usr/sbin", "var",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One file: its path without a leading slash, its mode with the type's bits, its bytes.

    `device` is the (major, minor) number of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, in their order, with every number that could vary set to a constant."""
    parts = [_member(number, entry) for number, entry in enumerate(entries, start=1)]
    return b"".join([*parts, _member(0, Entry("TRAILER!!!", 0))])


def contents(
    *, agent: bytes, busybox: bytes, boot_modules: Sequence[tuple[str, bytes]]
) -> list[Entry]:
    """What lkm's guest starts with: the agent as PID 1, busybox, and the modules it boots with."""
    entries = [Entry(path, 0o040755) for path in DIRECTORIES]
    entries += [
        Entry("init", 0o100755, agent),
        Entry("lkm/modprobe", 0o120777, b"../init"),
        Entry("bin/busybox", 0o100755, busybox),
        Entry("etc/passwd", 0o100644, b"root:x:0:0:root:/root:/bin/sh\n"),
        Entry("etc/group", 0o100644, b"root:x:0:\n"),
        Entry("etc/profile", 0o100644, b"PS1='lkm:\\w# '\n"),
    ]
    entries += [Entry(f"bin/{name}", 0o120777, b"busybox") for name in _APPLETS]
    entries += [
        Entry(f"lkm/boot/{number:02}-{name}.ko", 0o100644, data)
        for number, (name, data) in enumerate(boot_modules)
    ]
    return entries


def _member(number: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# Links made here, so that no process has to run before the machine is frozen; the shell's own `busybox`
# finds the rest of the applets by their names.
_APPLETS = (
    "sh", "ash", "awk", "basename", "cat", "chmod", "chown", "clear", "cmp", "cp", "cut", "date", "dd", "df",
    "diff", "dirname", "dmesg", "du", "echo", "egrep", "env", "expr", "false", "fgrep", "find", "free", "grep",
    "gunzip", "gzip", "head", "hexdump", "hostname", "id", "ifconfig", "insmod", "ip", "kill", "killall",
    "less", "ln", "losetup", "ls", "lsmod", "lspci", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "modinfo",
    "modprobe", "more", "mount", "mountpoint", "mv", "nc", "nice", "nohup", "od", "pidof", "ping", "pkill",
    "poweroff", "printf", "ps", "pwd", "readlink", "reboot", "renice", "reset", "rm", "rmdir", "rmmod", "route",
    "sed", "seq", "setsid", "sha256sum", "sleep", "sort", "stat", "strings", "stty", "sync", "sysctl", "tail",
    "tar", "tee", "test", "time", "timeout", "top", "touch", "tr", "true", "tty", "umount", "uname", "uniq",
    "unxz", "uptime", "usleep", "vi", "wc", "wget", "which", "whoami", "xargs", "xxd", "yes", "zcat",
)  # fmt: skip
