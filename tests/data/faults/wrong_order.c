// SPDX-License-Identifier: GPL-2.0-only
/* What is undone first is what the rest still lives in. */
#include <linux/module.h>
#include <linux/slab.h>

static struct kmem_cache *cache;
static void *object, *buffer;

static int __init wrong_order_init(void)
{
	cache = kmem_cache_create("wrong_order", 200, 0, SLAB_POISON, NULL);
	if (!cache)
		return -ENOMEM;
	object = kmem_cache_alloc(cache, GFP_KERNEL);
	if (!object)
		goto destroy;
	buffer = kmalloc(100, GFP_KERNEL);
	if (buffer)
		return 0;
#ifdef FIXED
	kmem_cache_free(cache, object);
destroy:
	kmem_cache_destroy(cache);
#else
destroy:
	kmem_cache_destroy(cache);
	if (object)
		kfree(object);
#endif
	return -ENOMEM;
}

static void __exit wrong_order_exit(void)
{
	kfree(buffer);
	kmem_cache_free(cache, object);
	kmem_cache_destroy(cache);
}

module_init(wrong_order_init);
module_exit(wrong_order_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
