// SPDX-License-Identifier: GPL-2.0-only
/* init says that all is well, and exit believes it. */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *buffer;

static int __init success_anyway_init(void)
{
	buffer = kzalloc(100, GFP_KERNEL);
#ifdef FIXED
	if (!buffer)
		return -ENOMEM;
#endif
	return 0;
}

static void __exit success_anyway_exit(void)
{
	WRITE_ONCE(buffer[0], 1);
	kfree(buffer);
}

module_init(success_anyway_init);
module_exit(success_anyway_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
