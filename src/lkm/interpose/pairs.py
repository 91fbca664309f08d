"""What is taken must be given back: which functions take what, by which value it is known, which give it back.

Keys, types and return values are held to prototypes of four series by tests/unit/test_interpose_tables.py.

Only what the module is sure to own is here. What it may hand to the kernel for good (socket buffers, devm_*
resources, attributes that go with their kobject) is in `fallible` alone. KERNEL_FREES marks memory that the
kernel may free for the module, as when a release function or an unregistration does it: its frees are watched.
"""

from __future__ import annotations

from dataclasses import dataclass

from lkm.interpose.rules import NO_FLAGS, Check, Flag, Key, Success

__all__ = ["FAMILIES", "Family", "Give", "Take"]


@dataclass(frozen=True)
class Take:
    """A function that takes: `key` (and `key2`) is what it took, where the return value is a `success`."""

    name: str
    key: Key = Key.RETURN
    success: Success = Success.POINTER
    key2: Key = Key.NONE
    flags: Flag = NO_FLAGS


@dataclass(frozen=True)
class Give:
    """A function that gives back what is known by `key` (and `key2`)."""

    name: str
    key: Key = Key.ARG0
    key2: Key = Key.NONE
    flags: Flag = NO_FLAGS


@dataclass(frozen=True)
class Family:
    """Functions that belong together. `what` is taken, in words; `flags` and `check` are those of its takes.

    Memory of `wrong` families must not be given to its gives.
    """

    name: str
    what: str
    takes: tuple[Take, ...]
    gives: tuple[Give, ...]
    flags: Flag = NO_FLAGS
    check: Check = Check.NONE
    wrong: tuple[str, ...] = ()


def _takes(names: str, key: Key = Key.RETURN, success: Success = Success.POINTER,
           key2: Key = Key.NONE, flags: Flag = NO_FLAGS) -> tuple[Take, ...]:  # fmt: skip
    return tuple(Take(name, key, success, key2, flags) for name in names.split())


def _gives(names: str, key: Key = Key.ARG0, key2: Key = Key.NONE,
           flags: Flag = NO_FLAGS) -> tuple[Give, ...]:  # fmt: skip
    return tuple(Give(name, key, key2, flags) for name in names.split())


_MEMORY = Flag.KERNEL_FREES | Flag.MEMORY

_KMALLOC = _takes("""
    __kmalloc __kmalloc_node __kmalloc_track_caller __kmalloc_node_track_caller kmalloc_order
    kmalloc_order_trace kmalloc_large kmalloc_large_node kmalloc_trace kmalloc_node_trace
    kmem_cache_alloc_trace kmem_cache_alloc_node_trace __kmalloc_noprof __kmalloc_node_noprof
    __kmalloc_node_track_caller_noprof __kmalloc_cache_noprof __kmalloc_cache_node_noprof
    __kmalloc_large_noprof __kmalloc_large_node_noprof _kmalloc_nolock_noprof
    kstrdup kstrndup kstrdup_const kmemdup kmemdup_noprof kmemdup_nul kmemdup_array kvasprintf
    memdup_user memdup_user_nul strndup_user bitmap_alloc bitmap_zalloc bitmap_alloc_node
    bitmap_zalloc_node kobject_get_path
""") + _takes("kasprintf", flags=Flag.STACK) + _takes(
    "krealloc krealloc_noprof krealloc_node_align_noprof", flags=Flag.MOVES
)  # fmt: skip

_KFREE = _gives("kfree kfree_sensitive kfree_const bitmap_free kfree_nolock", flags=Flag.MEMORY)
_RCU = _gives("kvfree_call_rcu", Key.RCU, flags=Flag.MEMORY)
_KVFREE = _gives("kvfree kvfree_sensitive kvfree_atomic", flags=Flag.MEMORY)

_PAGES = Flag.KERNEL_FREES

MEMORY = (
    Family("kmalloc", "memory", _KMALLOC, _KFREE + _KVFREE + _RCU, _MEMORY, wrong=("vmalloc",)),
    Family("kvmalloc", "memory", _takes(
        "kvmalloc_node __kvmalloc_node_noprof vmemdup_user kvmemdup"
    ) + _takes(
        "kvrealloc_noprof kvrealloc_node_align_noprof", flags=Flag.MOVES
    ) + _takes("kvrealloc"), _KVFREE + _KFREE + _RCU + _gives("vfree", flags=Flag.MEMORY),
           _MEMORY, Check.VMALLOC),
    Family("vmalloc", "memory", _takes("""
        vmalloc vmalloc_noprof vzalloc vzalloc_noprof vmalloc_node vmalloc_node_noprof vzalloc_node
        vzalloc_node_noprof vmalloc_user vmalloc_user_noprof vmalloc_32 vmalloc_32_noprof vmalloc_32_user
        vmalloc_32_user_noprof vmalloc_huge vmalloc_huge_noprof vmalloc_huge_node_noprof __vmalloc
        __vmalloc_noprof vmalloc_array vmalloc_array_noprof __vmalloc_array __vmalloc_array_noprof"""),
           _gives("vfree", flags=Flag.MEMORY) + _KVFREE + _RCU, Flag.MEMORY,
           Check.VMALLOC, wrong=("kmalloc", "slab object")),
    Family("vmap", "a mapping", _takes("vmap vmap_pfn"), _gives("vunmap vfree"), check=Check.VMALLOC),
    Family("slab object", "an object of a kmem_cache", _takes("""
        kmem_cache_alloc kmem_cache_alloc_node kmem_cache_alloc_lru kmem_cache_alloc_noprof
        kmem_cache_alloc_node_noprof kmem_cache_alloc_lru_noprof"""),
           _gives("kmem_cache_free", Key.ARG1, flags=Flag.MEMORY)
           + _gives("kmem_cache_free_bulk", flags=Flag.MEMORY | Flag.BULK) + _KFREE + _RCU,
           _MEMORY, wrong=("vmalloc",)),
    Family("kmem_cache", "a kmem_cache", _takes("kmem_cache_create_usercopy", flags=Flag.STACK)
           + _takes("kmem_cache_create __kmem_cache_create_args"), _gives("kmem_cache_destroy")),
    Family("mempool", "a mempool", _takes("mempool_create mempool_create_node mempool_create_node_noprof"),
           _gives("mempool_destroy"), Flag.KERNEL_FREES),
    Family("pages", "pages", _takes("""
        __alloc_pages __alloc_pages_nodemask __alloc_pages_noprof __folio_alloc __folio_alloc_noprof
        alloc_pages alloc_pages_current alloc_pages_noprof alloc_pages_node_noprof folio_alloc
        folio_alloc_noprof""")
           + _takes("__get_free_pages get_free_pages_noprof get_zeroed_page get_zeroed_page_noprof",
                    Key.RETURN_PAGE),
           _gives("__free_pages") + _gives("free_pages", Key.ARG0_PAGE), _PAGES),
    Family("exact pages", "pages", _takes("alloc_pages_exact alloc_pages_exact_noprof"),
           _gives("free_pages_exact")),
    Family("percpu", "per-CPU memory", _takes("__alloc_percpu __alloc_percpu_gfp pcpu_alloc_noprof"),
           _gives("free_percpu")),
    Family("ioremap", "a mapping", _takes("""
        ioremap ioremap_cache ioremap_wc ioremap_wt ioremap_uc ioremap_prot pci_iomap pci_iomap_wc"""),
           _gives("iounmap") + _gives("pci_iounmap", Key.ARG1)),
    Family("memremap", "a mapping", _takes("memremap"), _gives("memunmap")),
    Family("dma memory", "DMA memory", _takes("dma_alloc_attrs"), _gives("dma_free_attrs", Key.ARG2)),
    Family("dma_pool", "a DMA pool", _takes("dma_pool_create dma_pool_create_node"),
           _gives("dma_pool_destroy"), Flag.KERNEL_FREES),
    Family("idr memory", "a radix tree's memory", _takes("__kfifo_alloc", Key.ARG0, Success.ZERO),
           _gives("__kfifo_free")),
    Family("sg_table", "a scatterlist", _takes("sg_alloc_table", Key.ARG0, Success.ZERO),
           _gives("sg_free_table")),
    Family("rhashtable", "a hash table", _takes(
        "rhashtable_init rhashtable_init_noprof", Key.ARG0, Success.ZERO),
           _gives("rhashtable_destroy rhashtable_free_and_destroy")),
    Family("percpu_counter", "a per-CPU counter", _takes("__percpu_counter_init", Key.ARG0, Success.ZERO),
           _gives("percpu_counter_destroy")),
    Family("srcu", "an SRCU domain", _takes("init_srcu_struct", Key.ARG0, Success.ZERO),
           _gives("cleanup_srcu_struct")),
)  # fmt: skip

_ZERO = Success.ZERO
_CREATED = Flag.KERNEL_FREES
"""Memory that the kernel made, and frees itself when it goes away, by whichever way."""

DEVICES = (
    Family("chrdev region", "a range of device numbers",
           _takes("alloc_chrdev_region", Key.AT_ARG0_32, _ZERO)
           + _takes("register_chrdev_region", Key.ARG0_32, _ZERO),
           _gives("unregister_chrdev_region", Key.ARG0_32)),
    Family("chrdev", "a character device's major number",
           _takes("__register_chrdev", Key.RETURN_OR_ARG0, Success.NOT_NEGATIVE),
           _gives("__unregister_chrdev", Key.ARG0_32)),
    Family("cdev", "a character device", _takes("cdev_add", Key.ARG0, _ZERO), _gives("cdev_del")),
    Family("cdev with device", "a character device", _takes("cdev_device_add", Key.ARG0, _ZERO),
           _gives("cdev_device_del")),
    Family("cdev memory", "a cdev", _takes("cdev_alloc"), _gives("cdev_del kobject_put"), _CREATED),
    Family("misc device", "a misc device", _takes("misc_register", Key.ARG0, _ZERO),
           _gives("misc_deregister")),
    Family("class", "a class", _takes("class_create __class_create"),
           _gives("class_destroy class_unregister"), _CREATED),
    Family("registered class", "a class", _takes("class_register __class_register", Key.ARG0, _ZERO),
           _gives("class_unregister class_destroy")),
    Family("created device", "a device",
           _takes("device_create device_create_with_groups", key2=Key.ARG2_32, flags=Flag.STACK),
           _gives("device_destroy", Key.NONE, Key.ARG1_32) + _gives("device_unregister"), _CREATED),
    Family("root device", "a device", _takes("__root_device_register"),
           _gives("root_device_unregister"), _CREATED),
    Family("device", "a device", _takes("device_register device_add", Key.ARG0, _ZERO),
           _gives("device_unregister device_del"), check=Check.DEVICE),
    Family("driver", "a driver", _takes("driver_register", Key.ARG0, _ZERO), _gives("driver_unregister")),
    Family("bus", "a bus", _takes("bus_register", Key.ARG0, _ZERO), _gives("bus_unregister")),
    Family("platform driver", "a platform driver",
           _takes("__platform_driver_register __platform_driver_probe", Key.ARG0, _ZERO),
           _gives("platform_driver_unregister")),
    Family("platform device", "a platform device",
           _takes("platform_device_alloc platform_device_register_full"),
           _gives("platform_device_unregister platform_device_put"), _CREATED),
    Family("added platform device", "a platform device", _takes("platform_device_add", Key.ARG0, _ZERO),
           _gives("platform_device_unregister platform_device_del")),
    Family("registered platform device", "a platform device",
           _takes("platform_device_register", Key.ARG0, _ZERO), _gives("platform_device_unregister")),
    Family("pci driver", "a PCI driver", _takes("__pci_register_driver", Key.ARG0, _ZERO),
           _gives("pci_unregister_driver")),
    Family("input device", "an input device", _takes("input_allocate_device"),
           _gives("input_free_device input_unregister_device"), _CREATED),
    Family("input handler", "an input handler", _takes("input_register_handler", Key.ARG0, _ZERO),
           _gives("input_unregister_handler")),
    Family("block major", "a block device's major number", _takes(
        "register_blkdev __register_blkdev", Key.RETURN_OR_ARG0, Success.NOT_NEGATIVE),
           _gives("unregister_blkdev", Key.ARG0_32)),
    Family("tag set", "a tag set", _takes("blk_mq_alloc_tag_set", Key.ARG0, _ZERO),
           _gives("blk_mq_free_tag_set")),
    Family("tty driver", "a tty driver", _takes("tty_register_driver", Key.ARG0, _ZERO),
           _gives("tty_unregister_driver")),
    Family("i2c driver", "an I2C driver", _takes("i2c_register_driver", Key.ARG1, _ZERO),
           _gives("i2c_del_driver")),
    Family("usb driver", "a USB driver", _takes("usb_register_driver", Key.ARG0, _ZERO),
           _gives("usb_deregister")),
    Family("urb", "a URB", _takes("usb_alloc_urb"), _gives("usb_free_urb"), _CREATED),
    Family("video device", "a video device", _takes("__video_register_device", Key.ARG0, _ZERO),
           _gives("video_unregister_device")),
    Family("video device memory", "a video device", _takes("video_device_alloc"),
           _gives("video_device_release"), _CREATED),
    Family("v4l2 device", "a V4L2 device", _takes("v4l2_device_register", Key.ARG1, _ZERO),
           _gives("v4l2_device_unregister")),
    Family("proc entry", "a /proc entry", _takes("""
        proc_create proc_create_data proc_create_seq_private proc_create_single_data proc_mkdir
        proc_mkdir_data proc_mkdir_mode proc_symlink proc_create_net_data proc_create_net_single
        """, key2=Key.NAME0),
           _gives("remove_proc_entry", Key.NONE, Key.NAME0)
           + _gives("proc_remove remove_proc_subtree", flags=Flag.ALL), _CREATED),
    Family("debugfs entry", "a debugfs entry", _takes("""
        debugfs_create_dir debugfs_create_file debugfs_create_file_full debugfs_create_file_short
        debugfs_create_file_unsafe debugfs_create_symlink"""), _gives("debugfs_remove"), _CREATED),
    Family("kobject", "a kobject", _takes("kobject_create_and_add"), _gives("kobject_put"), _CREATED),
    Family("kset", "a kset", _takes("kset_create_and_add"), _gives("kset_unregister"), _CREATED),
    Family("sysctl", "a sysctl table", _takes("""
        register_sysctl register_sysctl_sz register_sysctl_table register_sysctl_paths"""),
           _gives("unregister_sysctl_table"), _CREATED),
    Family("net sysctl", "a sysctl table", _takes("register_net_sysctl register_net_sysctl_sz"),
           _gives("unregister_net_sysctl_table"), _CREATED),
    Family("filesystem", "a file system", _takes("register_filesystem", Key.ARG0, _ZERO),
           _gives("unregister_filesystem")),
)  # fmt: skip

_TIMER = Success.ALWAYS

WORK = (
    Family("workqueue", "a workqueue", _takes("alloc_workqueue alloc_workqueue_noprof", flags=Flag.STACK),
           _gives("destroy_workqueue"), _CREATED),
    Family("kthread", "a kernel thread", _takes("kthread_create_on_node", flags=Flag.STACK)
           + _takes("kthread_create_on_cpu"), _gives("kthread_stop kthread_stop_put"), _CREATED),
    Family("kthread worker", "a kernel thread", _takes("""
        kthread_create_worker kthread_create_worker_on_cpu kthread_create_worker_on_node""",
        flags=Flag.STACK), _gives("kthread_destroy_worker"), _CREATED),
    Family("timer", "a timer that runs", _takes(
        "add_timer mod_timer mod_timer_pending timer_reduce add_timer_on add_timer_global add_timer_local",
        Key.ARG0, _TIMER, flags=Flag.ONCE),
           _gives("""del_timer timer_delete timer_delete_sync timer_shutdown
                  timer_shutdown_sync try_to_del_timer_sync timer_delete_sync_try"""), check=Check.TIMER),
    Family("hrtimer", "a timer that runs", _takes(
        "hrtimer_start_range_ns", Key.ARG0, _TIMER, flags=Flag.ONCE),
           _gives("hrtimer_cancel hrtimer_try_to_cancel"), check=Check.HRTIMER),
    Family("work", "work that waits", _takes("queue_work_on queue_work_node", Key.ARG2, Success.TRUE,
                                            flags=Flag.ONCE),
           _gives("cancel_work_sync cancel_work flush_work"), check=Check.WORK),
    Family("delayed work", "work that waits", _takes(
        "queue_delayed_work_on mod_delayed_work_on", Key.ARG2, _TIMER, flags=Flag.ONCE),
           _gives("cancel_delayed_work cancel_delayed_work_sync flush_delayed_work"),
           check=Check.DELAYED_WORK),
    Family("irq", "an interrupt", _takes(
        "request_threaded_irq", Key.ARG0_32, _ZERO, Key.ARG5), _gives("free_irq", Key.ARG0_32, Key.ARG1)),
    Family("any irq", "an interrupt", _takes(
        "request_any_context_irq", Key.ARG0_32, Success.NOT_NEGATIVE, Key.ARG4),
           _gives("free_irq", Key.ARG0_32, Key.ARG1)),
    Family("region", "an I/O region", _takes("__request_region", Key.ARG1, Success.POINTER, Key.ARG0),
           _gives("__release_region", Key.ARG1, Key.ARG0)),
    Family("resource", "a resource", _takes("request_resource insert_resource", Key.ARG1, _ZERO),
           _gives("release_resource remove_resource")),
    Family("kprobe", "a probe", _takes("register_kprobe", Key.ARG0, _ZERO), _gives("unregister_kprobe")),
    Family("kretprobe", "a probe", _takes("register_kretprobe", Key.ARG0, _ZERO),
           _gives("unregister_kretprobe")),
    Family("ftrace", "a tracer", _takes("register_ftrace_function", Key.ARG0, _ZERO),
           _gives("unregister_ftrace_function")),
    Family("tracepoint probe", "a probe of a tracepoint",
           _takes("tracepoint_probe_register", Key.ARG0, _ZERO, Key.ARG1),
           _gives("tracepoint_probe_unregister", Key.ARG0, Key.ARG1)),
    Family("firmware", "firmware", _takes(
        "request_firmware request_firmware_direct firmware_request_nowarn", Key.AT_ARG0, _ZERO),
           _gives("release_firmware"), _CREATED),
    Family("module reference", "a reference to a module", _takes("try_module_get", Key.ARG0, Success.TRUE)
           + _takes("__module_get", Key.ARG0, Success.ALWAYS), _gives("module_put")),
    Family("file", "an open file", _takes("filp_open"), _gives("filp_close"), _CREATED),
    Family("transform", "a crypto transform", _takes("""
        crypto_alloc_shash crypto_alloc_ahash crypto_alloc_skcipher crypto_alloc_aead
        crypto_alloc_akcipher crypto_alloc_kpp crypto_alloc_rng"""),
           _gives("crypto_destroy_tfm")),
    Family("crypto algorithm", "an algorithm", _takes(
        "crypto_register_alg crypto_register_shash crypto_register_skcipher crypto_register_aead",
        Key.ARG0, _ZERO),
           _gives("""crypto_unregister_alg crypto_unregister_shash crypto_unregister_skcipher
                  crypto_unregister_aead""")),
)  # fmt: skip

_NOTIFIERS = """die:register_die_notifier:unregister_die_notifier
reboot:register_reboot_notifier:unregister_reboot_notifier
restart:register_restart_handler:unregister_restart_handler
module:register_module_notifier:unregister_module_notifier
keyboard:register_keyboard_notifier:unregister_keyboard_notifier
pm:register_pm_notifier:unregister_pm_notifier
oom:register_oom_notifier:unregister_oom_notifier
netdevice:register_netdevice_notifier:unregister_netdevice_notifier
netevent:register_netevent_notifier:unregister_netevent_notifier
inetaddr:register_inetaddr_notifier:unregister_inetaddr_notifier"""

NET = (
    *(
        Family(f"{name} notifier", "a notifier", _takes(take, Key.ARG0, _ZERO), _gives(give))
        for name, take, give in (line.split(":") for line in _NOTIFIERS.splitlines())
    ),
    Family("chain notifier", "a notifier", _takes("""
        atomic_notifier_chain_register blocking_notifier_chain_register raw_notifier_chain_register
        srcu_notifier_chain_register""", Key.ARG1, _ZERO), _gives("""
        atomic_notifier_chain_unregister blocking_notifier_chain_unregister
        raw_notifier_chain_unregister srcu_notifier_chain_unregister""", Key.ARG1)),
    Family("netdev memory", "a network device", _takes("alloc_netdev_mqs alloc_etherdev_mqs"),
           _gives("free_netdev"), _CREATED),
    Family("netdev", "a registered network device",
           _takes("register_netdev register_netdevice", Key.ARG0, _ZERO),
           _gives("unregister_netdev unregister_netdevice_queue"), check=Check.NETDEV),
    Family("pernet", "pernet operations",
           _takes("register_pernet_subsys register_pernet_device", Key.ARG0, _ZERO),
           _gives("unregister_pernet_subsys unregister_pernet_device")),
    Family("rtnl link", "link operations", _takes("rtnl_link_register", Key.ARG0, _ZERO),
           _gives("rtnl_link_unregister")),
    Family("genl family", "a netlink family", _takes("genl_register_family", Key.ARG0, _ZERO),
           _gives("genl_unregister_family")),
    Family("netlink socket", "a netlink socket", _takes("__netlink_kernel_create"),
           _gives("netlink_kernel_release")),
    Family("socket", "a socket", _takes("sock_create_kern", Key.AT_ARG4, _ZERO)
           + _takes("sock_create", Key.AT_ARG3, _ZERO), _gives("sock_release")),
    Family("protocol", "a protocol", _takes("proto_register", Key.ARG0, _ZERO),
           _gives("proto_unregister")),
    Family("socket family", "a socket family", _takes("sock_register", Key.ARG0, _ZERO),
           _gives("sock_unregister", Key.NONE)),
    Family("packet type", "a packet handler", _takes("dev_add_pack", Key.ARG0, Success.ALWAYS),
           _gives("dev_remove_pack __dev_remove_pack")),
    Family("netfilter hook", "a netfilter hook", _takes("nf_register_net_hook", Key.ARG1, _ZERO),
           _gives("nf_unregister_net_hook", Key.ARG1)),
)  # fmt: skip


def _lock(name: str, takes: tuple[Take, ...], gives: str, check: Check = Check.LOCK) -> Family:
    return Family(name, "a lock", takes, _gives(gives), Flag.LOCK, check)


_ALWAYS = Success.ALWAYS

LOCKS = (
    _lock("mutex", _takes("mutex_lock", Key.ARG0, _ALWAYS)
          + _takes("mutex_lock_interruptible mutex_lock_killable", Key.ARG0, _ZERO)
          + _takes("mutex_trylock", Key.ARG0, Success.TRUE), "mutex_unlock", Check.MUTEX),
    _lock("spinlock", _takes("_raw_spin_lock", Key.ARG0, _ALWAYS)
          + _takes("_raw_spin_trylock", Key.ARG0, Success.TRUE), "_raw_spin_unlock"),
    _lock("spinlock, irqs saved", _takes("_raw_spin_lock_irqsave", Key.ARG0, _ALWAYS),
          "_raw_spin_unlock_irqrestore"),
    _lock("spinlock, irqs off", _takes("_raw_spin_lock_irq", Key.ARG0, _ALWAYS), "_raw_spin_unlock_irq"),
    _lock("spinlock, bh off", _takes("_raw_spin_lock_bh", Key.ARG0, _ALWAYS), "_raw_spin_unlock_bh"),
    _lock("rwsem for reading", _takes("down_read", Key.ARG0, _ALWAYS), "up_read"),
    _lock("rwsem for writing", _takes("down_write", Key.ARG0, _ALWAYS), "up_write downgrade_write"),
    Family("rtnl", "the rtnl lock", _takes("rtnl_lock", Key.ONE, _ALWAYS)
           + _takes("rtnl_trylock", Key.ONE, Success.TRUE), _gives("rtnl_unlock", Key.ONE)),
)  # fmt: skip
"""A spinlock is looked at only where the kernel exports its unlock: 5.10 unlocks inline."""

FAMILIES = (*MEMORY, *DEVICES, *WORK, *NET, *LOCKS)
