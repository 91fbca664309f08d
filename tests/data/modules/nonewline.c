// SPDX-License-Identifier: GPL-2.0-only
/* the last line ends without a newline */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init nonewline_init(void)
{
	pr_info("init without a newline");
	return 0;
}

static void __exit nonewline_exit(void)
{
	pr_info("exit without a newline");
}

module_init(nonewline_init);
module_exit(nonewline_exit);

MODULE_DESCRIPTION("the last line ends without a newline");
MODULE_LICENSE("GPL");
