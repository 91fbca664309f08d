// SPDX-License-Identifier: GPL-2.0-only
/* has no exit function: it can never be unloaded */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init noexit_init(void)
{
	pr_info("init\n");
	return 0;
}

module_init(noexit_init);

MODULE_DESCRIPTION("has no exit function: it can never be unloaded");
MODULE_LICENSE("GPL");
