// SPDX-License-Identifier: GPL-2.0-only
/* exit gives up when there is no memory for its last words. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/slab.h>

static char *buffer;

static int __init exit_leak_init(void)
{
	buffer = kmalloc(100, GFP_KERNEL);
	return buffer ? 0 : -ENOMEM;
}

static void __exit exit_leak_exit(void)
{
	char *words = kasprintf(GFP_KERNEL, "bye %d", 1);

#ifndef FIXED
	if (!words)
		return;
#endif
	if (words)
		pr_info("%s\n", words);
	kfree(words);
	kfree(buffer);
}

module_init(exit_leak_init);
module_exit(exit_leak_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
