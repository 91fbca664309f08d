// SPDX-License-Identifier: GPL-2.0-only
/* The error path frees what its helper has freed. */
#include <linux/module.h>
#include <linux/slab.h>

static char *a, *b;

static int second(void)
{
	b = kmalloc(100, GFP_KERNEL);
	if (b)
		return 0;
#ifndef FIXED
	kfree(a);
#endif
	return -ENOMEM;
}

static int __init free_twice_init(void)
{
	int err;

	a = kmalloc(100, GFP_KERNEL);
	if (!a)
		return -ENOMEM;
	err = second();
	if (err)
		kfree(a);
	return err;
}

static void __exit free_twice_exit(void)
{
	kfree(b);
	kfree(a);
}

module_init(free_twice_init);
module_exit(free_twice_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
