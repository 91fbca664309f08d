"""What the source calls a function whose symbol has another name. Pure."""

from __future__ import annotations

__all__ = ["spoken"]

_SPOKEN = {
    "kmalloc": """__kmalloc __kmalloc_cache kmalloc_trace kmem_cache_alloc_trace kmalloc_order
        kmalloc_order_trace kmalloc_large __kmalloc_large""",
    "kmalloc_node": """__kmalloc_node __kmalloc_cache_node kmalloc_node_trace kmem_cache_alloc_node_trace
        kmalloc_large_node __kmalloc_large_node""",
    "kmalloc_track_caller": "__kmalloc_track_caller __kmalloc_node_track_caller",
    "krealloc": "krealloc_node_align",
    "kvmalloc": "kvmalloc_node __kvmalloc_node",
    "kvrealloc": "kvrealloc_node_align",
    "kfree_rcu": "kvfree_call_rcu",
    "kmem_cache_create": "__kmem_cache_create_args kmem_cache_create_usercopy",
    "alloc_pages": "__alloc_pages __alloc_pages_nodemask alloc_pages_current",
    "__get_free_pages": "get_free_pages",
    "alloc_percpu": "__alloc_percpu __alloc_percpu_gfp pcpu_alloc",
    "copy_from_user": "_copy_from_user",
    "copy_to_user": "_copy_to_user",
    "register_chrdev": "__register_chrdev",
    "unregister_chrdev": "__unregister_chrdev",
    "class_create": "__class_create",
    "class_register": "__class_register",
    "platform_driver_register": "__platform_driver_register",
    "pci_register_driver": "__pci_register_driver",
    "request_region": "__request_region",
    "release_region": "__release_region",
    "request_irq": "request_threaded_irq",
    "kthread_create": "kthread_create_on_node",
    "debugfs_create_file": "debugfs_create_file_full debugfs_create_file_short",
    "sysfs_create_file": "sysfs_create_file_ns",
    "alloc_netdev": "alloc_netdev_mqs",
    "alloc_etherdev": "alloc_etherdev_mqs",
    "alloc_skb": "__alloc_skb",
    "netdev_alloc_skb": "__netdev_alloc_skb",
    "register_sysctl": "register_sysctl_sz",
    "video_register_device": "__video_register_device",
    "ida_alloc": "ida_alloc_range",
    "hrtimer_start": "hrtimer_start_range_ns",
    "queue_work": "queue_work_on",
    "queue_delayed_work": "queue_delayed_work_on",
    "wait_event_interruptible": "prepare_to_wait_event",
    "spin_lock": "_raw_spin_lock",
    "spin_lock_bh": "_raw_spin_lock_bh",
    "spin_lock_irq": "_raw_spin_lock_irq",
    "spin_lock_irqsave": "_raw_spin_lock_irqsave",
    "spin_trylock": "_raw_spin_trylock",
}
_BY_SYMBOL = {symbol: name for name, symbols in _SPOKEN.items() for symbol in symbols.split()}


def spoken(symbol: str) -> str:
    """`kmalloc` for `__kmalloc_cache_noprof`; the symbol itself where it is what the source says."""
    plain = symbol.removesuffix("_noprof")
    return _BY_SYMBOL.get(plain, plain)
