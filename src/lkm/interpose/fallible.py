"""The functions that can fail, and what each returns when it does.

Failures and files were written down from memory; only the names are tested, against Module.symvers.

Names are those of the symbols that modules import, of all series from 5.10 to 7.3: `kmalloc` of a constant size
is `kmem_cache_alloc_trace` in 5.10, `kmalloc_trace` in 6.1 and `__kmalloc_cache_noprof` from 6.10 on. What is a
macro or an inline function in the headers has no symbol, and is failed through what it calls.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from lkm.interpose.rules import Fail

__all__ = ["FALLIBLE", "Fallible"]


@dataclass(frozen=True)
class Fallible:
    """How a function fails: `failure` as C has it, `source` the kernel file to look for it in.

    `gfp` says that it takes GFP flags; with __GFP_NOFAIL among them it cannot fail.
    """

    name: str
    failure: str
    value: int
    source: str
    fail: Fail = Fail.VALUE
    gfp: bool = False


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


_ENOMEM, _EBUSY, _EINTR = _minus("ENOMEM"), _minus("EBUSY"), _minus("EINTR")
_EEXIST, _EFAULT, _ENOENT = _minus("EEXIST"), _minus("EFAULT"), _minus("ENOENT")
_NO_MEMORY = _err_ptr("ENOMEM")

_GFP: tuple[tuple[tuple[str, int], str, str], ...] = (
    (_NULL, "mm/slub.c", """
        __kmalloc __kmalloc_node __kmalloc_track_caller __kmalloc_node_track_caller kmem_cache_alloc
        kmem_cache_alloc_node kmem_cache_alloc_lru kmem_cache_alloc_trace kmem_cache_alloc_node_trace
        kmalloc_trace kmalloc_node_trace __kmalloc_noprof __kmalloc_node_noprof
        __kmalloc_node_track_caller_noprof __kmalloc_cache_noprof __kmalloc_cache_node_noprof
        __kmalloc_large_noprof __kmalloc_large_node_noprof _kmalloc_nolock_noprof kmem_cache_alloc_noprof
        kmem_cache_alloc_node_noprof kmem_cache_alloc_lru_noprof krealloc_node_align_noprof"""),
    (_NULL, "mm/slab_common.c", """
        kmalloc_order kmalloc_order_trace kmalloc_large kmalloc_large_node krealloc krealloc_noprof"""),
    (_NULL, "mm/util.c", """
        kvmalloc_node __kvmalloc_node_noprof kvrealloc kvrealloc_noprof kvrealloc_node_align_noprof kstrdup
        kstrndup kstrdup_const kmemdup kmemdup_noprof kmemdup_nul kmemdup_array kvmemdup"""),
    (_NULL, "lib/kasprintf.c", "kasprintf kvasprintf kvasprintf_const"),
    (_NULL, "mm/vmalloc.c", "__vmalloc __vmalloc_noprof"),
    (_NULL, "mm/page_alloc.c", """
        __alloc_pages __alloc_pages_nodemask __alloc_pages_noprof __folio_alloc __folio_alloc_noprof
        alloc_pages_exact alloc_pages_exact_noprof"""),
    (_NULL, "mm/mempolicy.c", """
        alloc_pages alloc_pages_current alloc_pages_noprof alloc_pages_node_noprof folio_alloc
        folio_alloc_noprof"""),
    (_ZERO, "mm/page_alloc.c", """
        __get_free_pages get_free_pages_noprof get_zeroed_page get_zeroed_page_noprof"""),
    (_ZERO, "mm/slub.c", "kmem_cache_alloc_bulk kmem_cache_alloc_bulk_noprof"),
    (_NULL, "lib/bitmap.c", "bitmap_alloc bitmap_zalloc bitmap_alloc_node bitmap_zalloc_node"),
)  # fmt: skip

_PLAIN: tuple[tuple[tuple[str, int], str, str], ...] = (
    (_NULL, "mm/vmalloc.c", """
        vmalloc vmalloc_noprof vzalloc vzalloc_noprof vmalloc_node vmalloc_node_noprof vzalloc_node
        vzalloc_node_noprof vmalloc_user vmalloc_user_noprof vmalloc_32 vmalloc_32_noprof vmalloc_32_user
        vmalloc_32_user_noprof vmalloc_huge vmalloc_huge_noprof vmalloc_huge_node_noprof vmap vmap_pfn"""),
    (_NULL, "mm/util.c", """
        vmalloc_array vmalloc_array_noprof __vmalloc_array __vmalloc_array_noprof"""),
    (_NULL, "mm/percpu.c", "__alloc_percpu __alloc_percpu_gfp pcpu_alloc_noprof"),
    (_NULL, "mm/slab_common.c", """
        kmem_cache_create kmem_cache_create_usercopy __kmem_cache_create_args"""),
    (_NULL, "mm/mempool.c", """
        mempool_create mempool_create_node mempool_create_node_noprof"""),
    (_NULL, "arch/x86/mm/ioremap.c", """
        ioremap ioremap_cache ioremap_wc ioremap_wt ioremap_uc ioremap_prot"""),
    (_NULL, "kernel/iomem.c", "memremap"),
    (_NO_MEMORY, "mm/util.c", "memdup_user memdup_user_nul vmemdup_user"),
    (_err_ptr("EFAULT"), "mm/util.c", "strndup_user"),
    (_EFAULT, "lib/strncpy_from_user.c", "strncpy_from_user"),
    (_EFAULT, "mm/gup.c", """
        get_user_pages get_user_pages_fast get_user_pages_remote get_user_pages_unlocked pin_user_pages
        pin_user_pages_fast"""),
    (_EBUSY, "fs/char_dev.c", "alloc_chrdev_region register_chrdev_region __register_chrdev"),
    (_ENOMEM, "fs/char_dev.c", "cdev_add cdev_device_add"),
    (_NULL, "fs/char_dev.c", "cdev_alloc"),
    (_EBUSY, "drivers/char/misc.c", "misc_register"),
    (_NO_MEMORY, "drivers/base/class.c", "class_create __class_create"),
    (_ENOMEM, "drivers/base/class.c", """
        class_register __class_register class_create_file_ns class_interface_register"""),
    (_NO_MEMORY, "drivers/base/core.c", "device_create device_create_with_groups __root_device_register"),
    (_ENOMEM, "drivers/base/core.c", """
        device_register device_add device_create_file device_create_bin_file device_add_groups dev_set_name"""),
    (_ENOMEM, "drivers/base/bus.c", "bus_register bus_create_file"),
    (_EBUSY, "drivers/base/driver.c", "driver_register driver_create_file"),
    (_EBUSY, "drivers/base/platform.c", """
        __platform_driver_register __platform_driver_probe __platform_register_drivers"""),
    (_NO_MEMORY, "drivers/base/platform.c", "platform_device_register_full __platform_create_bundle"),
    (_NULL, "drivers/base/platform.c", "platform_device_alloc"),
    (_ENOMEM, "drivers/base/platform.c", """
        platform_device_add platform_device_register platform_device_add_data platform_device_add_resources"""),
    (_minus("ENXIO"), "drivers/base/platform.c", "platform_get_irq"),
    (_NULL, "drivers/base/devres.c", """
        devm_kmalloc devm_kmemdup devm_kstrdup devm_kasprintf __devm_alloc_percpu devm_get_free_pages"""),
    (_ENOMEM, "drivers/base/devres.c", "__devm_add_action devm_add_action"),
    (_NULL, "lib/devres.c", "devm_ioremap devm_ioremap_wc devm_ioremap_uc"),
    (_NO_MEMORY, "lib/devres.c", """
        devm_ioremap_resource devm_platform_ioremap_resource devm_platform_get_and_ioremap_resource"""),
    (_NULL, "kernel/resource.c", "__request_region __devm_request_region"),
    (_EBUSY, "kernel/resource.c", "request_resource insert_resource allocate_resource devm_request_resource"),
    (_EBUSY, "kernel/irq/manage.c", "request_threaded_irq request_any_context_irq __request_percpu_irq"),
    (_EBUSY, "kernel/irq/devres.c", "devm_request_threaded_irq devm_request_any_context_irq"),
    (_NULL, "fs/proc/generic.c", """
        proc_create proc_create_data proc_create_seq_private proc_create_single_data proc_mkdir
        proc_mkdir_data proc_mkdir_mode proc_symlink"""),
    (_NULL, "fs/proc/proc_net.c", """
        proc_create_net_data proc_create_net_data_write proc_create_net_single
        proc_create_net_single_write"""),
    (_NULL, "fs/proc/proc_sysctl.c", """
        register_sysctl register_sysctl_sz register_sysctl_table register_sysctl_paths"""),
    (_NULL, "net/sysctl_net.c", "register_net_sysctl register_net_sysctl_sz"),
    (_ENOMEM, "fs/seq_file.c", "seq_open single_open single_open_size"),
    (_NULL, "fs/seq_file.c", "__seq_open_private"),
    (_NO_MEMORY, "fs/debugfs/inode.c", """
        debugfs_create_dir debugfs_create_file debugfs_create_file_full debugfs_create_file_short
        debugfs_create_file_unsafe debugfs_create_symlink"""),
    (_ENOMEM, "fs/sysfs/file.c", "sysfs_create_file_ns sysfs_create_files sysfs_create_bin_file"),
    (_ENOMEM, "fs/sysfs/group.c", """
        sysfs_create_group sysfs_create_groups sysfs_merge_group sysfs_add_file_to_group"""),
    (_ENOMEM, "fs/sysfs/symlink.c", "sysfs_create_link"),
    (_NULL, "lib/kobject.c", "kobject_create_and_add kset_create_and_add kobject_get_path"),
    (_ENOMEM, "lib/kobject.c", "kobject_init_and_add kobject_add kobject_set_name kset_register"),
    (_ENOMEM, "lib/kobject_uevent.c", "kobject_uevent kobject_uevent_env"),
    (_NULL, "kernel/workqueue.c", "alloc_workqueue alloc_workqueue_noprof devm_alloc_workqueue_noprof"),
    (_NO_MEMORY, "kernel/kthread.c", """
        kthread_create_on_node kthread_create_on_cpu kthread_create_worker kthread_create_worker_on_cpu
        kthread_create_worker_on_node"""),
    (_ENOMEM, "kernel/notifier.c", "register_die_notifier"),
    (_EEXIST, "kernel/notifier.c", """
        atomic_notifier_chain_register blocking_notifier_chain_register raw_notifier_chain_register
        srcu_notifier_chain_register"""),
    (_EEXIST, "kernel/reboot.c", "register_reboot_notifier register_restart_handler"),
    (_EEXIST, "kernel/module/main.c", "register_module_notifier"),
    (_EEXIST, "drivers/tty/vt/keyboard.c", "register_keyboard_notifier"),
    (_EEXIST, "kernel/power/main.c", "register_pm_notifier"),
    (_EEXIST, "mm/oom_kill.c", "register_oom_notifier"),
    (_EEXIST, "net/core/dev.c", "register_netdevice_notifier register_netdevice_notifier_net"),
    (_EEXIST, "net/core/netevent.c", "register_netevent_notifier"),
    (_EEXIST, "net/ipv4/devinet.c", "register_inetaddr_notifier"),
    (_minus("EINVAL"), "kernel/kprobes.c", """
        register_kprobe register_kretprobe register_kprobes register_kretprobes"""),
    (_minus("EINVAL"), "kernel/trace/ftrace.c", "register_ftrace_function"),
    (_EEXIST, "kernel/tracepoint.c", "tracepoint_probe_register"),
    (_NULL, "drivers/input/input.c", "input_allocate_device devm_input_allocate_device"),
    (_ENOMEM, "drivers/input/input.c", "input_register_device input_register_handler input_register_handle"),
    (_NULL, "net/core/dev.c", "alloc_netdev_mqs"),
    (_NULL, "net/ethernet/eth.c", "alloc_etherdev_mqs"),
    (_ENOMEM, "net/core/dev.c", "register_netdev register_netdevice"),
    (_ENOMEM, "net/core/net_namespace.c", "register_pernet_subsys register_pernet_device"),
    (_EEXIST, "net/core/rtnetlink.c", "rtnl_link_register rtnl_register_module"),
    (_EEXIST, "net/netlink/genetlink.c", "genl_register_family"),
    (_NULL, "net/netlink/af_netlink.c", "__netlink_kernel_create"),
    (_EBUSY, "net/socket.c", "sock_register"),
    (_minus("ENFILE"), "net/socket.c", "sock_create sock_create_kern sock_create_lite"),
    (_ENOMEM, "net/core/sock.c", "proto_register"),
    (_NULL, "net/core/sock.c", "sk_alloc"),
    (_NULL, "net/core/skbuff.c", """
        __alloc_skb __netdev_alloc_skb skb_clone skb_copy alloc_skb_with_frags build_skb
        skb_realloc_headroom"""),
    (_ENOMEM, "net/core/skbuff.c", "pskb_expand_head"),
    (_ENOMEM, "net/netfilter/core.c", "nf_register_net_hook nf_register_net_hooks"),
    (_EBUSY, "net/netfilter/nf_sockopt.c", "nf_register_sockopt"),
    (_EBUSY, "fs/filesystems.c", "register_filesystem"),
    (_ENOMEM, "fs/libfs.c", "simple_pin_fs"),
    (_NULL, "fs/inode.c", "new_inode"),
    (_NULL, "fs/dcache.c", "d_make_root d_alloc_name"),
    (_err_ptr("ENOENT"), "fs/open.c", "filp_open"),
    (_ENOENT, "drivers/base/firmware_loader/main.c", """
        request_firmware request_firmware_direct firmware_request_nowarn request_firmware_nowait"""),
    (_err_ptr("ENOENT"), "crypto/api.c", """
        crypto_alloc_shash crypto_alloc_ahash crypto_alloc_skcipher crypto_alloc_aead crypto_alloc_base
        crypto_alloc_akcipher crypto_alloc_kpp crypto_alloc_rng crypto_alloc_acomp"""),
    (_EEXIST, "crypto/algapi.c", """
        crypto_register_alg crypto_register_shash crypto_register_skcipher crypto_register_aead
        crypto_register_template"""),
    (_ENOMEM, "lib/idr.c", "idr_alloc idr_alloc_u32 idr_alloc_cyclic ida_alloc_range"),
    (_err_ptr("ENOMEM"), "lib/xarray.c", "xa_store"),
    (_ENOMEM, "lib/xarray.c", "__xa_insert __xa_alloc __xa_alloc_cyclic"),
    (_ENOMEM, "lib/rhashtable.c", "rhashtable_init rhashtable_init_noprof rhltable_init"),
    (_ENOMEM, "lib/kfifo.c", "__kfifo_alloc"),
    (_ENOMEM, "lib/scatterlist.c", "sg_alloc_table sg_alloc_table_from_pages_segment"),
    (_ENOMEM, "lib/percpu_counter.c", "__percpu_counter_init __percpu_counter_init_many"),
    (_ENOMEM, "lib/percpu-refcount.c", "percpu_ref_init"),
    (_ENOMEM, "kernel/rcu/srcutree.c", "init_srcu_struct"),
    (_NULL, "kernel/dma/mapping.c", "dma_alloc_attrs dma_alloc_pages dma_pool_alloc"),
    (_NULL, "mm/dmapool.c", "dma_pool_create dma_pool_create_node"),
    (_minus("EIO"), "kernel/dma/mapping.c", "dma_set_mask dma_set_coherent_mask"),
    (_minus("EINVAL"), "drivers/pci/pci.c", "pci_enable_device pci_enable_device_mem pcim_enable_device"),
    (_EBUSY, "drivers/pci/pci.c", "pci_request_region pci_request_regions pci_request_selected_regions"),
    (_NULL, "lib/pci_iomap.c", "pci_iomap pci_iomap_wc pci_iomap_range"),
    (_minus("ENOSPC"), "drivers/pci/msi/api.c", """
        pci_alloc_irq_vectors pci_alloc_irq_vectors_affinity pci_enable_msi pci_enable_msix_range"""),
    (_EBUSY, "drivers/pci/pci-driver.c", "__pci_register_driver"),
    (_EBUSY, "block/genhd.c", "register_blkdev __register_blkdev"),
    (_ENOMEM, "block/blk-mq.c", "blk_mq_alloc_tag_set blk_mq_alloc_sq_tag_set"),
    (_NO_MEMORY, "block/blk-mq.c", "blk_mq_init_queue blk_mq_alloc_queue __blk_mq_alloc_disk"),
    (_NULL, "block/genhd.c", "__alloc_disk_node"),
    (_NO_MEMORY, "block/genhd.c", "__blk_alloc_disk"),
    (_NULL, "block/bio.c", "bio_alloc_bioset"),
    (_NO_MEMORY, "drivers/tty/tty_io.c", "__tty_alloc_driver tty_register_device tty_port_register_device"),
    (_EBUSY, "drivers/tty/tty_io.c", "tty_register_driver tty_register_ldisc"),
    (_NULL, "drivers/video/fbdev/core/fb_info.c", "framebuffer_alloc"),
    (_ENOMEM, "drivers/video/fbdev/core/fbmem.c", "register_framebuffer"),
    (_NO_MEMORY, "drivers/rtc/class.c", "devm_rtc_allocate_device devm_rtc_device_register"),
    (_NULL, "drivers/i2c/i2c-core-base.c", "i2c_new_client_device"),
    (_EBUSY, "drivers/i2c/i2c-core-base.c", "i2c_register_driver i2c_add_adapter i2c_add_numbered_adapter"),
    (_EBUSY, "drivers/usb/core/driver.c", "usb_register_driver"),
    (_NULL, "drivers/usb/core/urb.c", "usb_alloc_urb"),
    (_ENOMEM, "drivers/usb/core/urb.c", "usb_submit_urb"),
    (_NULL, "drivers/usb/core/usb.c", "usb_alloc_coherent"),
    (_EBUSY, "drivers/media/v4l2-core/v4l2-dev.c", "__video_register_device"),
    (_NULL, "drivers/media/v4l2-core/v4l2-dev.c", "video_device_alloc"),
    (_ENOMEM, "drivers/media/v4l2-core/v4l2-device.c", "v4l2_device_register"),
    (_ENOMEM, "drivers/media/common/videobuf2/videobuf2-v4l2.c", "vb2_queue_init"),
    (_ENOMEM, "sound/core/init.c", "snd_card_new snd_card_register"),
    (_ENOMEM, "sound/core/pcm.c", "snd_pcm_new"),
    (_EINTR, "kernel/locking/mutex.c", "mutex_lock_interruptible mutex_lock_killable"),
    (_EINTR, "kernel/locking/rwsem.c", """
        down_read_interruptible down_read_killable down_write_killable"""),
    (_EINTR, "kernel/locking/semaphore.c", "down_interruptible down_killable"),
    (_minus("ETIME"), "kernel/locking/semaphore.c", "down_timeout"),
    (_minus("ERESTARTSYS"), "kernel/sched/completion.c", """
        wait_for_completion_interruptible wait_for_completion_killable
        wait_for_completion_interruptible_timeout"""),
    (_ZERO, "kernel/sched/completion.c", "wait_for_completion_timeout"),
    (_minus("ERESTARTSYS"), "kernel/sched/wait.c", "prepare_to_wait_event"),
    (_FALSE, "kernel/module/main.c", "try_module_get"),
    (_EBUSY, "drivers/gpio/gpiolib-legacy.c", "gpio_request gpio_request_one"),
    (_err_ptr("ENOENT"), "drivers/gpio/gpiolib.c", "gpiod_get gpiod_get_optional devm_gpiod_get"),
    (_err_ptr("ENOENT"), "drivers/clk/clkdev.c", "clk_get devm_clk_get"),
    (_err_ptr("ENODEV"), "drivers/regulator/core.c", "regulator_get devm_regulator_get"),
    (_NULL, "lib/genalloc.c", "gen_pool_create gen_pool_alloc_algo_owner"),
)  # fmt: skip

_BY_HAND = (
    Fallible("_copy_from_user", "n, and the target cleared", 0, "lib/usercopy.c", Fail.COPY_ZEROED),
    Fallible("_copy_to_user", "n", 0, "lib/usercopy.c", Fail.COPY),
    Fallible("clear_user", "n", 0, "arch/x86/lib/usercopy_64.c", Fail.CLEAR),
    Fallible("__clear_user", "n", 0, "arch/x86/lib/usercopy_64.c", Fail.CLEAR),
)


def _fallible() -> Iterator[Fallible]:
    for groups, gfp in ((_GFP, True), (_PLAIN, False)):
        for (failure, value), source, names in groups:
            for name in names.split():
                yield Fallible(name, failure, value, source, gfp=gfp)
    yield from _BY_HAND


FALLIBLE = {function.name: function for function in _fallible()}
"""By the symbol's name."""
