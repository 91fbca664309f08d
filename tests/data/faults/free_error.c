// SPDX-License-Identifier: GPL-2.0-only
/* An ERR_PTR goes to kfree(). */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/slab.h>

static char *buffer;

static noinline char *made(void)
{
	char *p = kmalloc(100, GFP_KERNEL);

	return p ? p : ERR_PTR(-ENOMEM);
}

static int __init free_error_init(void)
{
	int err;

	buffer = made();
	if (!IS_ERR(buffer))
		return 0;
	err = PTR_ERR(buffer);
#ifndef FIXED
	kfree(buffer);
#endif
	return err;
}

static void __exit free_error_exit(void)
{
	kfree(buffer);
}

module_init(free_error_init);
module_exit(free_error_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
