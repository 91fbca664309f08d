"""What a module leaves behind: where to look, by what it imports, and what is found as problems. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lkm.machine import Area, Left
from lkm.problems import Problem, ProblemKind, stack

__all__ = ["areas", "problems"]

# Exported functions that make nothing with a name. What is not listed here or below may make anything.
_HARMLESS = re.compile(
    "|".join(
        [
            r"_?v?printk\w*|_dev_(?:emerg|alert|crit|err|warn|notice|info|printk)|panic|dump_stack",
            r"__(?:x86_|fentry|stack_chk|fortify|SC[TK]__|sanitizer|ubsan|might_|cond_resched|get_user"
            r"|put_user|list_|wake_up|init_waitqueue|init_swait|kmalloc|kvmalloc|vmalloc|ref_stack_chk"
            r"|check_object_size|rcu_read|mutex_init|copy_user|warn_printk|tracepoint_|virt_addr)\w*",
            r"param_\w+|module_(?:put|refcount)|(?:__)?try_module_get|__module_\w+",
            r"(?:rt_)?mutex_\w+|_raw_\w*(?:spin|read|write)_\w+|(?:down|up)(?:_\w+)?|rcu_\w+|call_rcu\w*"
            r"|synchronize_\w+|refcount_\w+|percpu_\w+|completion_\w+|complete(?:_all)?|completion_done",
            r"str\w+|mem(?:cpy|set|cmp|move|chr|scan|dup_\w+)\w*|v?s[cn]*printf|v?sscanf|kstrto\w+"
            r"|simple_strto\w+|hex_\w+|print_hex_dump|sort|bitmap_\w+|_?find_\w+_bit\w*|crc\w+",
            r"k[mvz]*alloc\w*|k?v?free(?:_sensitive|_skb\w*)?|kvfree\w*|krealloc\w*|kvrealloc\w*|kmemdup\w*"
            r"|kstrn?dup\w*|kasprintf|kvasprintf|vmalloc\w*|vzalloc\w*|kmem_cache_(?:alloc|free)\w*"
            r"|(?:get|alloc|free|__get_free)_\w*pages?\w*|mempool_(?:alloc|free)|random_kmalloc_seed",
            r"_?copy_(?:to|from)_(?:user|iter)|clear_user|_?inline_copy_\w+|remap_\w+|vm_\w+",
            r"seq_\w+|single_(?:open|release)\w*|simple_(?:read_from|write_to)_buffer|noop_llseek|no_llseek"
            r"|generic_file_llseek\w*|default_llseek|nonseekable_open|stream_open|compat_ptr_ioctl",
            r"schedule(?:_\w+)?|wait_for_\w+|(?:init|finish|prepare_to|autoremove|woken|default|do)_wait\w*"
            r"|wake_up_\w+|msleep\w*|usleep\w*|ssleep|fsleep|__[nu]delay|__const_udelay|__udelay"
            r"|ktime_\w+|jiffies\w*|(?:js|ns|m|u)\w*_to_\w+|get_random_\w+|prandom_\w+|get_jiffies_64",
            r"(?:add|mod|del|init|try_to_del)_timer\w*|timer_\w+|hrtimer_\w+|round_jiffies\w*",
            r"(?:queue|flush|cancel|mod)_\w*work\w*|delayed_work_timer_fn|system_\w*wq|tasklet_\w+",
            r"(?:ida|idr|xa|xas|radix_tree|rb)_\w+|capable|current_task|pcpu_hot|cpu_\w+|nr_cpu_ids"
            r"|phys_base|page_offset_base|vmemmap_base|boot_cpu_data|const_pcpu_hot|static_key_\w+",
        ]
    )
)

_AREAS = (
    (r"proc_\w+|remove_proc_\w+|PDE_DATA|pde_data|kthread_\w+|wake_up_process", Area.PROC),
    (r"kmem_cache_(?:create|destroy)\w*", Area.CACHES),
    (r"debugfs_\w+|securityfs_\w+", Area.SYSFS),
    (
        r"misc_(?:de)?register|(?:__)?class_\w+|device_(?:create|destroy)\w*|cdev_\w+|(?:__)?(?:un)?register_chrdev\w*"
        r"|alloc_chrdev_region|request_threaded_irq|free_irq",
        Area.DEVICES,
    ),
    (
        r"alloc_netdev\w*|free_netdev|(?:un)?register_netdev\w*|ether_setup|eth_\w+|netif_\w+|netdev_\w+|_*skb_\w+"
        r"|_*pskb_\w+|sk_skb_\w+|consume_skb|dev_(?:addr|kfree|consume|lstats)_\w+|(?:__)?alloc_skb\w*",
        Area.DEVICES,
    ),
)


def areas(imports: Iterable[str]) -> Area:
    """Where a module that imports these symbols can leave something: everywhere, if it has one not known."""
    found = Area(0)
    for name in imports:
        if _HARMLESS.fullmatch(name):
            continue
        found |= next((area for form, area in _AREAS if re.fullmatch(form, name)), Area.ALL)
    return found


def problems(left: Sequence[Left], at: int) -> tuple[Problem, ...]:
    """One problem of kind `left-behind` for each name that is left, whatever shows it.

    `at` is the record of the module's log before which they were found.
    """
    by_name: dict[str, list[Left]] = {}
    names = {one.name for one in left}
    for one in left:
        if not _is_stale(one, names):
            by_name.setdefault(_base(one), []).append(one)
    return tuple(_problem(sorted(same, key=_rank), at) for same in by_name.values())


_SLAB = "/sys/kernel/slab/"


def _is_stale(one: Left, names: set[str]) -> bool:
    """Whether it is a view of a slab cache that tells nothing.

    A cache that may be merged is named by its properties (`:0000840`), and a link has its name. That link stays
    when the cache has gone or was an alias of an older one (sysfs_slab_alias(), mm/slub.c, 5.10 to 7.3).
    """
    if not one.name.startswith(_SLAB) or one.kind != "path":
        return False
    return one.name.startswith(f"{_SLAB}:") or bool(one.more and f"{_SLAB}{one.more}" not in names)


_OTHERS = 3
"""How many views of the same are named beside the first."""


def _problem(same: Sequence[Left], at: int) -> Problem:
    first, *others = map(_described, same)
    if len(others) > _OTHERS:
        others[_OTHERS:] = [f"{len(others) - _OTHERS} more"]
    also = f" (also {', '.join(others)})" if others else ""
    trace = next((stack(one.more) for one in same if one.kind == "kthread"), ())
    ours = next((frame for frame in trace if frame.module or frame.address), None)
    return Problem(
        kind=ProblemKind.LEFT_BEHIND,
        summary=f"left {first} behind{also}",
        function=ours.function if ours else None,
        module=ours.module if ours else None,
        file=None,
        line=None,
        offset=ours.offset if ours else None,
        size=ours.size if ours else None,
        address=ours.address if ours else None,
        process=None,
        taint="",
        trace=trace,
        records=(at, at),
    )


def _base(left: Left) -> str:
    """The name without what shows it: that of the device, for /dev/x, /sys/class/misc/x and `misc 59 x`."""
    if left.kind == "path":
        return left.name.rpartition("/")[2]
    words = left.name.split()
    if left.kind in ("mount", "device", "misc", "interrupt"):
        return words[1].rpartition("/")[2] if len(words) > 1 else left.name
    if left.kind in ("iomem", "ioport"):
        return left.name.rpartition(" : ")[2]
    return " ".join(words[:1])


_RANKS = ("/sys/class/net/", "/dev/", "/proc/", "/sys/kernel/", "kthread", "/sys/class/", "/sys/")


def _rank(left: Left) -> int:
    """The names that a user knows come first."""
    text = left.name if left.kind == "path" else left.kind
    return next((i for i, start in enumerate(_RANKS) if text.startswith(start)), len(_RANKS))


_PATHS = (
    ("/sys/kernel/slab/", "the slab cache"),
    ("/sys/class/net/", "the network device"),
    ("/sys/module/", "the module"),
)
_NUMBERED = {
    "device": "the device number", "misc": "the misc device number", "interrupt": "the handler of interrupt",
}  # fmt: skip


def _described(left: Left) -> str:
    base = _base(left)
    words = left.name.split()
    for start, what in _PATHS:
        if left.kind == "path" and left.name == start + base:
            return f"{what} {base}"
    if left.kind == "path":
        return left.name.replace("/proc/1/net/", "/proc/net/")
    if left.kind in _NUMBERED:
        block = "block " if left.more == "block" else ""
        return f"{_NUMBERED[left.kind].replace('device', block + 'device')} {words[0]} ({base})"
    if left.kind == "kthread":
        return f"the kthread {base} (pid {words[-1]})"
    if left.kind == "module":
        return f"the module {words[0]} with a reference count of {words[-1]}"
    if left.kind == "mount":
        return f"the mount {words[1]}" if len(words) > 1 else f"the mount {left.name}"
    return f"the {_WORDS.get(left.kind, left.kind)} {left.name.strip()}"


_WORDS = {
    "crypto": "crypto algorithm", "filesystem": "file system", "iomem": "memory range", "ioport": "port range",
    "ldisc": "line discipline", "packet": "packet handler", "tty": "tty driver",
}  # fmt: skip
