// SPDX-License-Identifier: GPL-2.0-only
/* compiles with a warning: an unused variable */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init warning_init(void)
{
	int unused;

	pr_info("init\n");
	return 0;
}

static void __exit warning_exit(void)
{
}

module_init(warning_init);
module_exit(warning_exit);

MODULE_DESCRIPTION("compiles with a warning: an unused variable");
MODULE_LICENSE("GPL");
