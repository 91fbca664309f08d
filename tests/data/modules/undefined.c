// SPDX-License-Identifier: GPL-2.0-only
/* calls a function that nobody exports */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

int nobody_exports_this(void);

static int __init undefined_init(void)
{
	return nobody_exports_this();
}

static void __exit undefined_exit(void)
{
}

module_init(undefined_init);
module_exit(undefined_exit);

MODULE_DESCRIPTION("calls a function that nobody exports");
MODULE_LICENSE("GPL");
