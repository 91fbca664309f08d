// SPDX-License-Identifier: GPL-2.0-only
/* Nobody looks whether there is memory. */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *buffer;

static int __init use_null_init(void)
{
	buffer = kmalloc(64, GFP_KERNEL);
#ifdef FIXED
	if (!buffer)
		return -ENOMEM;
#endif
	strscpy(buffer, "text", 64);
	return 0;
}

static void __exit use_null_exit(void)
{
	kfree(buffer);
}

module_init(use_null_init);
module_exit(use_null_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
