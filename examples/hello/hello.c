// SPDX-License-Identifier: GPL-2.0-only
/*
 * hello - a line when it comes, a line when it goes
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init hello_init(void)
{
	pr_info("init\n");
	return 0;
}

static void __exit hello_exit(void)
{
	pr_info("exit\n");
}

module_init(hello_init);
module_exit(hello_exit);

MODULE_DESCRIPTION("hello module");
MODULE_LICENSE("GPL");
