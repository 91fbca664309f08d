"""What a module leaves behind: where to look, by what it imports, and what is found as problems. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lkm.machine import Area, Left
from lkm.problems import Frame, Problem, ProblemKind, stack

__all__ = ["areas", "fires_later", "made_by_modules", "problems"]


class _Names:
    """Names of functions, in words: `kfree`, or `kmalloc*` for all that begin so.

    No regular expression: to compile one of this size takes longer than a run looks at its module's imports.
    """

    def __init__(self, words: str) -> None:
        split = words.split()
        self._whole = frozenset(word for word in split if not word.endswith("*"))
        self._beginnings = tuple(word[:-1] for word in split if word.endswith("*"))

    def __contains__(self, name: str) -> bool:
        return name in self._whole or name.startswith(self._beginnings)


# Exported functions that make nothing with a name. What is not listed here or below may make anything.
_HARMLESS = _Names("""
    printk* _printk* vprintk* _vprintk* panic dump_stack print_hex_dump
    _dev_emerg _dev_alert _dev_crit _dev_err _dev_warn _dev_notice _dev_info _dev_printk
    __x86_* __fentry* __stack_chk* __fortify* __SCT__* __SCK__* __sanitizer* __ubsan* __might_*
    __cond_resched* __get_user* __put_user* __list_* __wake_up* __init_waitqueue* __init_swait*
    __kmalloc* __kvmalloc* __vmalloc* __ref_stack_chk* __check_object_size* __rcu_read* __mutex_init*
    __copy_user* __warn_printk* __tracepoint_* __virt_addr*
    param_* module_put module_refcount try_module_get __try_module_get __module_*
    mutex_* rt_mutex_* _raw_* down down_* up up_* rcu_* call_rcu* synchronize_* refcount_* percpu_*
    completion_* complete complete_all
    str* memcpy* memset* memcmp* memmove* memchr* memscan* memdup_* sprintf snprintf scnprintf vsprintf
    vsnprintf vscnprintf sscanf vsscanf kstrto* simple_strto* hex_* sort bitmap_* _find_* find_next_bit*
    find_next_zero_bit* find_next_and_bit* find_next_clump8 find_first_* find_last_bit* find_random_bit crc*
    kmalloc* kzalloc* kvmalloc* kvzalloc* kfree kfree_sensitive kfree_skb* vfree kvfree* krealloc*
    kvrealloc* kmemdup* kstrdup* kstrndup* kasprintf kvasprintf vmalloc* vzalloc* kmem_cache_alloc*
    kmem_cache_free* alloc_page* free_page* get_free_page* __get_free_page* get_zeroed_page*
    get_user_pages* free_reserved_page* mempool_alloc* mempool_free* random_kmalloc_seed
    copy_to_user copy_from_user _copy_to_user _copy_from_user copy_to_iter copy_from_iter _copy_to_iter
    _copy_from_iter clear_user inline_copy_* _inline_copy_* remap_* vm_*
    seq_* single_open* single_release* simple_read_from_buffer simple_write_to_buffer noop_llseek
    no_llseek generic_file_llseek* default_llseek nonseekable_open stream_open compat_ptr_ioctl
    schedule schedule_* wait_for_* init_wait* finish_wait* prepare_to_wait* autoremove_wait* woken_wait*
    default_wait* do_wait* wake_up_* msleep* usleep* ssleep fsleep __ndelay __udelay __const_udelay
    ktime_* jiffies* msecs_to_* usecs_to_* nsecs_to_* ns_to_* get_random_* prandom_* get_jiffies_64
    add_timer* mod_timer* del_timer* init_timer* try_to_del_timer* timer_* round_jiffies*
    queue_work* queue_delayed_work* queue_rcu_work* flush_work* flush_delayed_work* flush_rcu_work*
    cancel_work* cancel_delayed_work* mod_delayed_work* delayed_work_timer_fn system_* tasklet_*
    ida_* idr_* xa_* xas_* radix_tree_* rb_* capable current_task pcpu_hot const_pcpu_hot cpu_*
    nr_cpu_ids phys_base page_offset_base vmemmap_base boot_cpu_data static_key_*
""")

_AREAS = (
    (_Names("proc_* remove_proc_* PDE_DATA pde_data"), Area.PROC),
    (_Names("kthread_*"), Area.THREADS),
    (_Names("hrtimer_*"), Area.TIMERS),
    (_Names("kmem_cache_create* __kmem_cache_create_args kmem_cache_destroy*"), Area.CACHES),
    (_Names("proto_register proto_unregister inet_frags_*"), Area.ALL),
    (_Names("debugfs_* securityfs_*"), Area.SYSFS),
    (
        _Names("""
            class_* __class_* device_create* device_destroy* cdev_*
            register_chrdev* unregister_chrdev* __register_chrdev* __unregister_chrdev* alloc_chrdev_region
            request_threaded_irq free_irq
        """),
        Area.DEVICES,
    ),
    (_Names("misc_register misc_deregister"), Area.MISC),
    (
        _Names("""
            alloc_netdev* free_netdev register_netdev* unregister_netdev* ether_setup eth_* netif_* netdev_*
            skb_* _skb_* __skb_* ___skb_* pskb_* _pskb_* __pskb_* ___pskb_* sk_skb_* consume_skb
            dev_addr_* dev_kfree_* dev_consume_* dev_lstats_* alloc_skb* __alloc_skb*
        """),
        Area.NET,
    ),
)


# What some subsystem makes once, with its first user, and keeps is no module's: scsi_sense_cache (6.12,
# scsi_init_sense_cache(), drivers/scsi/scsi_lib.c). A cache counts where the module asks for caches.
_UNKNOWN = Area.ALL & ~Area.CACHES


# What has a function of a module called by itself later, by the names of 5.10 to 7.3. Not async_schedule*: an
# unload waits for it (delete_module(), kernel/module/main.c); not kfree_rcu: it calls nothing of the module.
_LATER = _Names("""
    add_timer* mod_timer* timer_reduce hrtimer_start* hrtimer_sleeper_start* alarm_start* alarm_restart
    queue_work* queue_delayed_work* queue_rcu_work mod_delayed_work* execute_in_process_context
    __tasklet_schedule __tasklet_hi_schedule irq_work_queue* call_rcu* call_srcu
    kthread_create* kthread_queue_* kthread_mod_delayed_work
""")


def fires_later(imports: Iterable[str]) -> bool:
    """Whether a module that imports these symbols can start what runs by itself later."""
    return any(name in _LATER for name in imports)


def areas(imports: Iterable[str]) -> Area:
    """Where a module that imports these symbols can leave something: all but caches for one not known."""
    found = Area(0)
    for name in imports:
        if name not in _HARMLESS:
            found |= next((area for names, area in _AREAS if name in names), _UNKNOWN)
    return found


def problems(left: Sequence[Left], at: int) -> tuple[Problem, ...]:
    """One problem of kind `left-behind` for each name that is left, whatever shows it.

    `at` is the record of the module's log before which they were found.
    """
    by_name: dict[str, list[Left]] = {}
    names = {one.name for one in left}
    for one in dict.fromkeys(left):
        if not _is_stale(one, names):
            by_name.setdefault(_base(one), []).append(one)
    return tuple(_problem(sorted(same, key=_rank), at) for same in by_name.values())


def made_by_modules(left: Sequence[Left], *, with_programs: bool) -> tuple[Left, ...]:
    """Those that nobody but a module can have made on a machine that a test has used.

    Not a node or a file that was made in /dev, a mount and what is below it, a cgroup, a module's count of
    references; with programs, which may do all that root may, also no network device, no thread of the kernel's
    own, no name in a deeper directory. Nothing at all where a module has stayed that was not there: what is new
    may be that one's.
    """
    paths = [one.name for one in left if one.kind == "path"]
    if any(path.startswith("/sys/module/") for path in paths):
        return ()
    elsewhere = {_base(one) for one in left if not one.name.startswith("/dev/")}
    mounts = [one.name.split()[1] for one in left if one.kind == "mount" and " " in one.name]
    below = tuple(f"{mount}/" for mount in (*mounts, "/sys/fs/cgroup"))
    return tuple(
        one
        for one in left
        if one.kind not in ("module", "mount")
        and not (one.kind == "path" and (one.name in mounts or one.name.startswith(below)))
        and not (one.name.startswith("/dev/") and _base(one) not in elsewhere)
        and not (with_programs and not _is_beyond_programs(one))
    )


_BEGINNINGS = ("kthread", "ret_from_fork", "ret_from_fork_asm")
"""What every thread of the kernel has at the end of its stack; looked at on 5.10, 6.1, 6.12 and 7.3."""
_LISTED = ("device", "filesystem", "hrtimer", "ldisc", "misc", "protocol", "tty")
_DIRECTORIES = ("/proc", "/sys/bus", "/sys/class", "/sys/firmware", "/sys/kernel")


def _is_beyond_programs(one: Left) -> bool:
    """Whether no system call of root makes it, but for init_module(2)."""
    if one.kind == "path":
        return one.name.rpartition("/")[0] in _DIRECTORIES
    if one.kind == "kthread":
        # Where its code is gone the unwinder stops: the stack does not reach the function that began it.
        functions = {frame.function for frame in stack(one.more)}
        return bool(functions) and functions.isdisjoint(_BEGINNINGS)
    return one.kind in _LISTED


_SLAB = "/sys/kernel/slab/"
_MADE_ONCE = (f"{_SLAB}scsi_sense_cache",)
"""Made with the first SCSI host (scsi_init_sense_cache(), drivers/scsi/scsi_lib.c, 5.10 to 7.3)."""


def _is_stale(one: Left, names: set[str]) -> bool:
    """Whether it is a view of a slab cache that tells nothing.

    A cache that may be merged is named by its properties (`:0000840`), and a link has its name. That link stays
    when the cache has gone or was an alias of an older one (sysfs_slab_alias(), mm/slub.c, 5.10 to 7.3).
    """
    if not one.name.startswith(_SLAB) or one.kind != "path":
        return False
    if one.name in _MADE_ONCE:
        return True
    return one.name.startswith(f"{_SLAB}:") or bool(one.more and f"{_SLAB}{one.more}" not in names)


_OTHERS = 3
"""How many views of the same are named beside the first."""


def _problem(same: Sequence[Left], at: int) -> Problem:
    first, *others = map(_described, same)
    if len(others) > _OTHERS:
        others[_OTHERS:] = [f"{len(others) - _OTHERS} more"]
    also = f" (also {', '.join(others)})" if others else ""
    trace = next((_trace(one) for one in same if one.kind in ("kthread", "hrtimer")), ())
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


def _trace(left: Left) -> tuple[Frame, ...]:
    """Where a thread is, or what a timer will call."""
    if left.kind == "kthread":
        return stack(left.more)
    if not left.name.startswith("0x"):
        return ()
    called = Frame(None, None, None, None, reliable=True, address=int(left.name, 16), exact=True)
    return (called,)


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
    if left.kind == "hrtimer":
        return "a pending hrtimer whose function is gone"
    if left.kind == "module":
        return f"the module {words[0]} with a reference count of {words[-1]}"
    if left.kind == "mount":
        return f"the mount {words[1]}" if len(words) > 1 else f"the mount {left.name}"
    return f"the {_WORDS.get(left.kind, left.kind)} {left.name.strip()}"


_WORDS = {
    "crypto": "crypto algorithm", "filesystem": "file system", "iomem": "memory range", "ioport": "port range",
    "ldisc": "line discipline", "packet": "packet handler", "tty": "tty driver",
}  # fmt: skip
