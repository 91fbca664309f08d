"""This computer as the machine: its own kernel, by system calls, /dev/kmsg and kmod's modprobe."""

from lkm.host.machine import HostMachine
from lkm.host.requirements import require_privilege, require_support

__all__ = ["HostMachine", "require_privilege", "require_support"]
