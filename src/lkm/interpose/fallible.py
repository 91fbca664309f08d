"""The functions that can fail, and what each returns when it does.

Failures and files were held against the sources of 5.10.223, 6.1.176, 6.12.117 and 7.3.4 by
`python -m bench.tables`: the definition is in the file (of the newest series that has it), and may return
the failure. Where series differ, `since` says so. Of several failures the likeliest is taken.

Names are those of the symbols that modules import, of all series from 5.10 to 7.3: `kmalloc` of a constant size
is `kmem_cache_alloc_trace` in 5.10, `kmalloc_trace` in 6.1 and `__kmalloc_cache_noprof` from 6.10 on. What is a
macro or an inline function in the headers has no symbol, and is failed through what it calls.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from lkm.interpose.rules import Fail

__all__ = ["FALLIBLE", "Fallible", "fallible"]


@dataclass(frozen=True)
class Fallible:
    """How a function fails: `failure` as C has it, `source` the kernel file that defines it.

    `gfp` has a bit for each argument that may be GFP flags; with __GFP_NOFAIL in one it cannot fail. `since` is
    the series (major, minor) from which on it fails so.
    """

    name: str
    failure: str
    value: int
    source: str
    fail: Fail = Fail.VALUE
    gfp: int = 0
    since: tuple[int, int] = (0, 0)


_NULL = ("NULL", 0)
_FALSE = ("false", 0)
_ZERO = ("0", 0)


def _minus(name: str) -> tuple[str, int]:
    kernels_own = {"ERESTARTSYS": 512}  # include/linux/errno.h
    number = kernels_own.get(name) or getattr(errno, name)
    return f"-{name}", -number


def _err_ptr(name: str) -> tuple[str, int]:
    text, value = _minus(name)
    return f"ERR_PTR({text})", value


_ENOMEM, _EBUSY, _EINTR, _EINVAL = map(_minus, ("ENOMEM", "EBUSY", "EINTR", "EINVAL"))
_EEXIST, _EFAULT, _ENOBUFS = map(_minus, ("EEXIST", "EFAULT", "ENOBUFS"))
_NO_MEMORY, _NO_ENTRY = _err_ptr("ENOMEM"), _err_ptr("ENOENT")
_XA_NO_MEMORY = ("XA_ERROR(-ENOMEM)", _ENOMEM[1] * 4 + 2)  # include/linux/xarray.h

_Group = tuple[tuple[str, int], str, str]

_ALL_SERIES: tuple[_Group, ...] = (
    (_NULL, "arch/x86/mm/ioremap.c", "ioremap ioremap_cache ioremap_prot ioremap_uc ioremap_wc ioremap_wt"),
    (_NULL, "block/bio.c", "bio_alloc_bioset"),
    (_ENOMEM, "block/blk-mq.c", "blk_mq_alloc_sq_tag_set blk_mq_alloc_tag_set"),
    (_NO_MEMORY, "block/blk-mq.c", "__blk_mq_alloc_disk blk_mq_alloc_queue blk_mq_init_queue"),
    (_EBUSY, "block/genhd.c", "__register_blkdev register_blkdev"),
    (_NULL, "block/genhd.c", "__alloc_disk_node"),
    (_NO_ENTRY, "crypto/acompress.c", "crypto_alloc_acomp"),
    (_EEXIST, "crypto/aead.c", "crypto_register_aead"),
    (_NO_ENTRY, "crypto/aead.c", "crypto_alloc_aead"),
    (_NO_ENTRY, "crypto/ahash.c", "crypto_alloc_ahash"),
    (_NO_ENTRY, "crypto/akcipher.c", "crypto_alloc_akcipher"),
    (_EEXIST, "crypto/algapi.c", "crypto_register_alg crypto_register_template"),
    (_NO_ENTRY, "crypto/api.c", "crypto_alloc_base"),
    (_NO_ENTRY, "crypto/kpp.c", "crypto_alloc_kpp"),
    (_NO_ENTRY, "crypto/rng.c", "crypto_alloc_rng"),
    (_EEXIST, "crypto/shash.c", "crypto_register_shash"),
    (_NO_ENTRY, "crypto/shash.c", "crypto_alloc_shash"),
    (_EEXIST, "crypto/skcipher.c", "crypto_register_skcipher"),
    (_NO_ENTRY, "crypto/skcipher.c", "crypto_alloc_skcipher"),
    (_ENOMEM, "drivers/base/bus.c", "bus_create_file bus_register"),
    (_EINVAL, "drivers/base/class.c", "class_interface_register"),
    (_ENOMEM, "drivers/base/class.c", "__class_register class_create_file_ns class_register"),
    (_NO_MEMORY, "drivers/base/class.c", "__class_create class_create"),
    (_ENOMEM, "drivers/base/core.c", """
        dev_set_name device_add device_add_groups device_create_bin_file device_create_file device_register"""),
    (_NO_MEMORY, "drivers/base/core.c", "__root_device_register device_create device_create_with_groups"),
    (_ENOMEM, "drivers/base/devres.c", "__devm_add_action devm_add_action"),
    (_ZERO, "drivers/base/devres.c", "devm_get_free_pages"),
    (_NULL, "drivers/base/devres.c", """
        __devm_alloc_percpu devm_kasprintf devm_kmalloc devm_kmemdup devm_kstrdup"""),
    (_EBUSY, "drivers/base/driver.c", "driver_register"),
    (_ENOMEM, "drivers/base/driver.c", "driver_create_file"),
    (_minus("ENOENT"), "drivers/base/firmware_loader/main.c", """
        firmware_request_nowarn request_firmware request_firmware_direct"""),
    (_ENOMEM, "drivers/base/firmware_loader/main.c", "request_firmware_nowait"),
    (_EBUSY, "drivers/base/platform.c", "__platform_driver_register __platform_register_drivers"),
    (_minus("ENODEV"), "drivers/base/platform.c", "__platform_driver_probe"),
    (_ENOMEM, "drivers/base/platform.c", """
        platform_device_add platform_device_add_data platform_device_add_resources platform_device_register"""),
    (_minus("ENXIO"), "drivers/base/platform.c", "platform_get_irq"),
    (_NO_MEMORY, "drivers/base/platform.c", """
        __platform_create_bundle devm_platform_get_and_ioremap_resource devm_platform_ioremap_resource
        platform_device_register_full"""),
    (_NULL, "drivers/base/platform.c", "platform_device_alloc"),
    (_EBUSY, "drivers/char/misc.c", "misc_register"),
    (_NO_ENTRY, "drivers/clk/clk-devres.c", "devm_clk_get"),
    (_NO_ENTRY, "drivers/clk/clkdev.c", "clk_get"),
    (_NO_ENTRY, "drivers/gpio/gpiolib-devres.c", "devm_gpiod_get"),
    (_EBUSY, "drivers/gpio/gpiolib-legacy.c", "gpio_request gpio_request_one"),
    (_NO_ENTRY, "drivers/gpio/gpiolib.c", "gpiod_get gpiod_get_optional"),
    (_EBUSY, "drivers/i2c/i2c-core-base.c", "i2c_add_adapter i2c_add_numbered_adapter i2c_register_driver"),
    (_NO_MEMORY, "drivers/i2c/i2c-core-base.c", "i2c_new_client_device"),
    (_EINTR, "drivers/input/input.c", "input_register_handle input_register_handler"),
    (_ENOMEM, "drivers/input/input.c", "input_register_device"),
    (_NULL, "drivers/input/input.c", "devm_input_allocate_device input_allocate_device"),
    (_EINVAL, "drivers/media/common/videobuf2/videobuf2-v4l2.c", "vb2_queue_init"),
    (_EBUSY, "drivers/media/v4l2-core/v4l2-dev.c", "__video_register_device"),
    (_NULL, "drivers/media/v4l2-core/v4l2-dev.c", "video_device_alloc"),
    (_EINVAL, "drivers/media/v4l2-core/v4l2-device.c", "v4l2_device_register"),
    (_EINVAL, "drivers/pci/devres.c", "pcim_enable_device"),
    (_NULL, "drivers/pci/iomap.c", "pci_iomap pci_iomap_range pci_iomap_wc"),
    (_minus("ENOSPC"), "drivers/pci/msi/api.c", """
        pci_alloc_irq_vectors pci_alloc_irq_vectors_affinity pci_enable_msi pci_enable_msix_range"""),
    (_EBUSY, "drivers/pci/pci-driver.c", "__pci_register_driver"),
    (_EBUSY, "drivers/pci/pci.c", "pci_request_region pci_request_regions pci_request_selected_regions"),
    (_EINVAL, "drivers/pci/pci.c", "pci_enable_device pci_enable_device_mem"),
    (_err_ptr("ENODEV"), "drivers/regulator/core.c", "regulator_get"),
    (_err_ptr("ENODEV"), "drivers/regulator/devres.c", "devm_regulator_get"),
    (_NO_MEMORY, "drivers/rtc/class.c", "devm_rtc_allocate_device devm_rtc_device_register"),
    (_EBUSY, "drivers/tty/tty_io.c", "tty_register_driver"),
    (_NO_MEMORY, "drivers/tty/tty_io.c", "__tty_alloc_driver tty_register_device"),
    (_EINVAL, "drivers/tty/tty_ldisc.c", "tty_register_ldisc"),
    (_NO_MEMORY, "drivers/tty/tty_port.c", "tty_port_register_device"),
    (_EBUSY, "drivers/usb/core/driver.c", "usb_register_driver"),
    (_ENOMEM, "drivers/usb/core/urb.c", "usb_submit_urb"),
    (_NULL, "drivers/usb/core/urb.c", "usb_alloc_urb"),
    (_NULL, "drivers/usb/core/usb.c", "usb_alloc_coherent"),
    (_NULL, "drivers/video/fbdev/core/fb_info.c", "framebuffer_alloc"),
    (_minus("ENXIO"), "drivers/video/fbdev/core/fbmem.c", "register_framebuffer"),
    (_EBUSY, "fs/char_dev.c", "__register_chrdev alloc_chrdev_region register_chrdev_region"),
    (_ENOMEM, "fs/char_dev.c", "cdev_add cdev_device_add"),
    (_NULL, "fs/char_dev.c", "cdev_alloc"),
    (_NULL, "fs/dcache.c", "d_alloc_name d_make_root"),
    (_NO_MEMORY, "fs/debugfs/inode.c", """
        debugfs_create_dir debugfs_create_file debugfs_create_file_full debugfs_create_file_short
        debugfs_create_file_unsafe debugfs_create_symlink"""),
    (_EBUSY, "fs/filesystems.c", "register_filesystem"),
    (_NULL, "fs/inode.c", "new_inode"),
    (_ENOMEM, "fs/libfs.c", "simple_pin_fs"),
    (_NO_ENTRY, "fs/open.c", "filp_open"),
    (_NULL, "fs/proc/generic.c", """
        proc_create proc_create_data proc_create_seq_private proc_create_single_data proc_mkdir
        proc_mkdir_data proc_mkdir_mode proc_symlink"""),
    (_NULL, "fs/proc/proc_net.c", """
        proc_create_net_data proc_create_net_data_write proc_create_net_single proc_create_net_single_write"""),
    (_NULL, "fs/proc/proc_sysctl.c", """
        register_sysctl register_sysctl_paths register_sysctl_sz register_sysctl_table"""),
    (_ENOMEM, "fs/seq_file.c", "seq_open single_open single_open_size"),
    (_NULL, "fs/seq_file.c", "__seq_open_private"),
    (_ENOMEM, "fs/sysfs/file.c", """
        sysfs_add_file_to_group sysfs_create_bin_file sysfs_create_file_ns sysfs_create_files"""),
    (_ENOMEM, "fs/sysfs/group.c", "sysfs_create_group sysfs_create_groups sysfs_merge_group"),
    (_ENOMEM, "fs/sysfs/symlink.c", "sysfs_create_link"),
    (_minus("EIO"), "kernel/dma/mapping.c", "dma_set_coherent_mask dma_set_mask"),
    (_NULL, "kernel/dma/mapping.c", "dma_alloc_attrs dma_alloc_pages"),
    (_NULL, "kernel/iomem.c", "memremap"),
    (_EBUSY, "kernel/irq/devres.c", "devm_request_any_context_irq devm_request_threaded_irq"),
    (_EBUSY, "kernel/irq/manage.c", "__request_percpu_irq request_any_context_irq request_threaded_irq"),
    (_EINVAL, "kernel/kprobes.c", "register_kprobe register_kprobes register_kretprobe register_kretprobes"),
    (_NO_MEMORY, "kernel/kthread.c", """
        kthread_create_on_cpu kthread_create_on_node kthread_create_worker kthread_create_worker_on_cpu
        kthread_create_worker_on_node"""),
    (_EINTR, "kernel/locking/mutex.c", "mutex_lock_interruptible mutex_lock_killable"),
    (_EINTR, "kernel/locking/rwsem.c", "down_read_interruptible down_read_killable down_write_killable"),
    (_EINTR, "kernel/locking/semaphore.c", "down_interruptible down_killable"),
    (_minus("ETIME"), "kernel/locking/semaphore.c", "down_timeout"),
    (_FALSE, "kernel/module/main.c", "try_module_get"),
    (_ENOMEM, "kernel/rcu/srcutree.c", "init_srcu_struct"),
    (_EBUSY, "kernel/resource.c", "allocate_resource devm_request_resource insert_resource request_resource"),
    (_NULL, "kernel/resource.c", "__devm_request_region __request_region"),
    (_minus("ERESTARTSYS"), "kernel/sched/completion.c", """
        wait_for_completion_interruptible wait_for_completion_interruptible_timeout
        wait_for_completion_killable"""),
    (_ZERO, "kernel/sched/completion.c", "wait_for_completion_timeout"),
    (_minus("ERESTARTSYS"), "kernel/sched/wait.c", "prepare_to_wait_event"),
    (_EINVAL, "kernel/trace/ftrace.c", "register_ftrace_function"),
    (_EEXIST, "kernel/tracepoint.c", "tracepoint_probe_register"),
    (_NULL, "kernel/workqueue.c", "alloc_workqueue alloc_workqueue_noprof devm_alloc_workqueue_noprof"),
    (_NULL, "lib/bitmap.c", "bitmap_alloc bitmap_alloc_node bitmap_zalloc bitmap_zalloc_node"),
    (_NO_MEMORY, "lib/devres.c", "devm_ioremap_resource"),
    (_NULL, "lib/devres.c", "devm_ioremap devm_ioremap_uc devm_ioremap_wc"),
    (_ZERO, "lib/genalloc.c", "gen_pool_alloc_algo_owner"),
    (_NULL, "lib/genalloc.c", "gen_pool_create"),
    (_ENOMEM, "lib/idr.c", "ida_alloc_range idr_alloc idr_alloc_cyclic idr_alloc_u32"),
    (_NULL, "lib/kasprintf.c", "kasprintf kvasprintf kvasprintf_const"),
    (_ENOMEM, "lib/kfifo.c", "__kfifo_alloc"),
    (_ENOMEM, "lib/kobject.c", "kobject_add kobject_init_and_add kobject_set_name kset_register"),
    (_NULL, "lib/kobject.c", "kobject_create_and_add kobject_get_path kset_create_and_add"),
    (_ENOMEM, "lib/kobject_uevent.c", "kobject_uevent kobject_uevent_env"),
    (_ENOMEM, "lib/percpu-refcount.c", "percpu_ref_init"),
    (_ENOMEM, "lib/percpu_counter.c", "__percpu_counter_init __percpu_counter_init_many"),
    (_EINVAL, "lib/rhashtable.c", "rhashtable_init rhashtable_init_noprof rhltable_init"),
    (_ENOMEM, "lib/scatterlist.c", "sg_alloc_table sg_alloc_table_from_pages_segment"),
    (_EFAULT, "lib/strncpy_from_user.c", "strncpy_from_user"),
    (_ENOMEM, "lib/xarray.c", "__xa_alloc __xa_alloc_cyclic __xa_insert"),
    (_XA_NO_MEMORY, "lib/xarray.c", "xa_store"),
    (_NULL, "mm/dmapool.c", "dma_pool_alloc dma_pool_create dma_pool_create_node"),
    (_EFAULT, "mm/gup.c", """
        get_user_pages get_user_pages_fast get_user_pages_remote get_user_pages_unlocked pin_user_pages
        pin_user_pages_fast"""),
    (_NULL, "mm/mempolicy.c", """
        alloc_pages alloc_pages_current alloc_pages_noprof folio_alloc folio_alloc_noprof"""),
    (_NULL, "mm/mempool.c", "mempool_create mempool_create_node mempool_create_node_noprof"),
    (_ZERO, "mm/page_alloc.c", """
        __get_free_pages get_free_pages_noprof get_zeroed_page get_zeroed_page_noprof"""),
    (_NULL, "mm/page_alloc.c", """
        __alloc_pages __alloc_pages_nodemask __alloc_pages_noprof __folio_alloc __folio_alloc_noprof
        alloc_pages_exact alloc_pages_exact_noprof alloc_pages_node_noprof"""),
    (_NULL, "mm/percpu.c", "__alloc_percpu __alloc_percpu_gfp pcpu_alloc_noprof"),
    (_NULL, "mm/slab_common.c", """
        __kmalloc __kmalloc_node __kmalloc_node_track_caller __kmem_cache_create_args kmalloc_large
        kmalloc_large_node kmalloc_node_trace kmalloc_order kmalloc_order_trace kmalloc_trace
        kmem_cache_create kmem_cache_create_usercopy krealloc krealloc_noprof"""),
    (_ZERO, "mm/slub.c", "kmem_cache_alloc_bulk kmem_cache_alloc_bulk_noprof"),
    (_NULL, "mm/slub.c", """
        __kmalloc_cache_node_noprof __kmalloc_cache_noprof __kmalloc_large_node_noprof
        __kmalloc_large_noprof __kmalloc_node_noprof __kmalloc_node_track_caller_noprof __kmalloc_noprof
        __kmalloc_track_caller __kvmalloc_node_noprof _kmalloc_nolock_noprof kmem_cache_alloc
        kmem_cache_alloc_lru kmem_cache_alloc_lru_noprof kmem_cache_alloc_node kmem_cache_alloc_node_noprof
        kmem_cache_alloc_node_trace kmem_cache_alloc_noprof kmem_cache_alloc_trace
        krealloc_node_align_noprof kvrealloc_node_align_noprof"""),
    (_err_ptr("EFAULT"), "mm/util.c", "strndup_user"),
    (_NO_MEMORY, "mm/util.c", "memdup_user memdup_user_nul vmemdup_user"),
    (_NULL, "mm/util.c", """
        __vmalloc_array __vmalloc_array_noprof kmemdup kmemdup_array kmemdup_noprof kmemdup_nul kstrdup
        kstrdup_const kstrndup kvmalloc_node kvmemdup kvrealloc kvrealloc_noprof vmalloc_array
        vmalloc_array_noprof"""),
    (_NULL, "mm/vmalloc.c", """
        __vmalloc __vmalloc_noprof vmalloc vmalloc_32 vmalloc_32_noprof vmalloc_32_user
        vmalloc_32_user_noprof vmalloc_huge vmalloc_huge_node_noprof vmalloc_huge_noprof vmalloc_node
        vmalloc_node_noprof vmalloc_noprof vmalloc_user vmalloc_user_noprof vmap vmap_pfn vzalloc
        vzalloc_node vzalloc_node_noprof vzalloc_noprof"""),
    (_ENOMEM, "net/core/dev.c", "register_netdev register_netdevice"),
    (_NULL, "net/core/dev.c", "alloc_netdev_mqs"),
    (_ENOMEM, "net/core/net_namespace.c", "register_pernet_device register_pernet_subsys"),
    (_EEXIST, "net/core/rtnetlink.c", "rtnl_link_register"),
    (_ENOBUFS, "net/core/rtnetlink.c", "rtnl_register_module"),
    (_ENOMEM, "net/core/skbuff.c", "pskb_expand_head"),
    (_NULL, "net/core/skbuff.c", """
        __alloc_skb __netdev_alloc_skb alloc_skb_with_frags build_skb skb_clone skb_copy
        skb_realloc_headroom"""),
    (_ENOBUFS, "net/core/sock.c", "proto_register"),
    (_NULL, "net/core/sock.c", "sk_alloc"),
    (_NULL, "net/ethernet/eth.c", "alloc_etherdev_mqs"),
    (_ENOMEM, "net/netfilter/core.c", "nf_register_net_hook nf_register_net_hooks"),
    (_EBUSY, "net/netfilter/nf_sockopt.c", "nf_register_sockopt"),
    (_NULL, "net/netlink/af_netlink.c", "__netlink_kernel_create"),
    (_EEXIST, "net/netlink/genetlink.c", "genl_register_family"),
    (_EEXIST, "net/socket.c", "sock_register"),
    (_minus("ENFILE"), "net/socket.c", "sock_create sock_create_kern"),
    (_ENOMEM, "net/socket.c", "sock_create_lite"),
    (_NULL, "net/sysctl_net.c", "register_net_sysctl register_net_sysctl_sz"),
    (_ENOMEM, "sound/core/init.c", "snd_card_new snd_card_register"),
    (_ENOMEM, "sound/core/pcm.c", "snd_pcm_new"),
)  # fmt: skip

_SINCE: tuple[tuple[tuple[int, int], tuple[_Group, ...]], ...] = (
    ((0, 0), (
        (_NULL, "block/genhd.c", "__blk_alloc_disk"),
    )),
    ((6, 1), (  # in 5.10 a second registration is a WARNING and 0
        (_EEXIST, "drivers/tty/vt/keyboard.c", "register_keyboard_notifier"),
        (_EEXIST, "kernel/module/main.c", "register_module_notifier"),
        (_EEXIST, "kernel/notifier.c", """
            atomic_notifier_chain_register blocking_notifier_chain_register raw_notifier_chain_register
            register_die_notifier srcu_notifier_chain_register"""),
        (_EEXIST, "kernel/power/main.c", "register_pm_notifier"),
        (_EEXIST, "kernel/reboot.c", "register_reboot_notifier register_restart_handler"),
        (_EEXIST, "mm/oom_kill.c", "register_oom_notifier"),
        (_EEXIST, "net/core/dev.c", "register_netdevice_notifier register_netdevice_notifier_net"),
        (_EEXIST, "net/core/netevent.c", "register_netevent_notifier"),
        (_EEXIST, "net/ipv4/devinet.c", "register_inetaddr_notifier"),
    )),
    ((6, 12), (
        (_NO_MEMORY, "block/genhd.c", "__blk_alloc_disk"),
    )),
)  # fmt: skip
"""Of the series that were read; in which one between them a function changed was not looked for."""

_BY_HAND = (
    Fallible("_copy_from_user", "n, and the target cleared", 0, "lib/usercopy.c", Fail.COPY_ZEROED),
    Fallible("_copy_to_user", "n", 0, "lib/usercopy.c", Fail.COPY),
    Fallible("clear_user", "n", 0, "arch/x86/lib/usercopy_64.c", Fail.CLEAR),
    Fallible("__clear_user", "n", 0, "arch/x86/lib/usercopy_64.c", Fail.CLEAR),
)

_GFP: tuple[tuple[tuple[int, ...], str], ...] = (
    ((0,), """
        __alloc_pages __alloc_pages_nodemask __alloc_pages_noprof __folio_alloc __folio_alloc_noprof
        __get_free_pages alloc_pages alloc_pages_current alloc_pages_noprof folio_alloc folio_alloc_noprof
        get_free_pages_noprof get_zeroed_page get_zeroed_page_noprof kasprintf kvasprintf kvasprintf_const"""),
    ((1,), """
        __alloc_skb __kmalloc __kmalloc_cache_node_noprof __kmalloc_cache_noprof __kmalloc_large_node_noprof
        __kmalloc_large_noprof __kmalloc_node __kmalloc_node_track_caller __kmalloc_track_caller __vmalloc
        __vmalloc_noprof alloc_pages_exact alloc_pages_exact_noprof alloc_pages_node_noprof bitmap_alloc
        bitmap_alloc_node bitmap_zalloc bitmap_zalloc_node devm_get_free_pages devm_kasprintf dma_pool_alloc
        kmalloc_large kmalloc_large_node kmalloc_node_trace kmalloc_order kmalloc_order_trace kmalloc_trace
        kmem_cache_alloc kmem_cache_alloc_bulk kmem_cache_alloc_bulk_noprof kmem_cache_alloc_node
        kmem_cache_alloc_node_noprof kmem_cache_alloc_node_trace kmem_cache_alloc_noprof
        kmem_cache_alloc_trace kobject_get_path kstrdup kstrdup_const kvmalloc_node skb_clone skb_copy
        usb_alloc_urb usb_submit_urb vmalloc_huge vmalloc_huge_node_noprof vmalloc_huge_noprof"""),
    ((2,), """
        __alloc_percpu_gfp __netdev_alloc_skb __percpu_counter_init __percpu_counter_init_many
        __vmalloc_array __vmalloc_array_noprof devm_kmalloc devm_kstrdup kmem_cache_alloc_lru
        kmem_cache_alloc_lru_noprof kmemdup kmemdup_noprof kmemdup_nul krealloc krealloc_noprof kstrndup
        kvmemdup kvrealloc_noprof sg_alloc_table sk_alloc usb_alloc_coherent"""),
    ((3,), """
        __kfifo_alloc __xa_insert devm_kmemdup dma_alloc_attrs ida_alloc_range kmemdup_array kvrealloc
        pcpu_alloc_noprof percpu_ref_init pskb_expand_head xa_store"""),
    ((0, 3), "bio_alloc_bioset"),
    ((1, 2, 3), """
        __kmalloc_node_noprof __kmalloc_node_track_caller_noprof __kmalloc_noprof _kmalloc_nolock_noprof"""),
    ((4,), """
        __xa_alloc alloc_skb_with_frags dma_alloc_pages idr_alloc idr_alloc_cyclic idr_alloc_u32
        mempool_create_node mempool_create_node_noprof request_firmware_nowait"""),
    ((1, 2, 3, 4), "__kvmalloc_node_noprof"),
    ((5,), "__xa_alloc_cyclic"),
    ((3, 4, 5), "krealloc_node_align_noprof kvrealloc_node_align_noprof"),
)  # fmt: skip
"""Which argument, from 0 on, has GFP flags; several where that depends on series and configuration."""

_EFFECTS = {
    "kobject_init_and_add": Fail.KOBJECT,
    "device_register": Fail.DEVICE,
    "platform_device_register": Fail.PLATFORM,
    "request_firmware": Fail.NULL_AT0,
    "request_firmware_direct": Fail.NULL_AT0,
    "firmware_request_nowarn": Fail.NULL_AT0,
    "snd_card_new": Fail.NULL_AT5,
    "snd_pcm_new": Fail.NULL_AT5,
}
"""What has done something when it fails, which the caller's error path counts on (read in all four series)."""

_GFP_BITS = {
    name: sum(1 << at for at in places) for places, names in _GFP for name in names.split()
}


def _of(groups: tuple[_Group, ...], since: tuple[int, int]) -> Iterator[Fallible]:
    for (failure, value), source, names in groups:
        for name in names.split():
            fail, gfp = _EFFECTS.get(name, Fail.VALUE), _GFP_BITS.get(name, 0)
            yield Fallible(name, failure, value, source, fail, gfp, since)


def _by_name() -> dict[str, tuple[Fallible, ...]]:
    found: dict[str, tuple[Fallible, ...]] = {each.name: (each,) for each in _BY_HAND}
    for since, groups in (((0, 0), _ALL_SERIES), *_SINCE):
        for each in _of(groups, since):
            found[each.name] = (*found.get(each.name, ()), each)
    return found


FALLIBLE = _by_name()
"""By the symbol's name: how it fails, from the oldest series on."""


def fallible(name: str, series: tuple[int, int]) -> Fallible | None:
    """How a function fails in a series; None for one that is not known to."""
    return next((each for each in reversed(FALLIBLE.get(name, ())) if each.since <= series), None)
