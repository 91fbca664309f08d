// SPDX-License-Identifier: GPL-2.0-only
/* does not compile: a semicolon is missing */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init syntax_error_init(void)
{
	pr_info("init\n")
	return 0;
}

static void __exit syntax_error_exit(void)
{
}

module_init(syntax_error_init);
module_exit(syntax_error_exit);

MODULE_DESCRIPTION("does not compile: a semicolon is missing");
MODULE_LICENSE("GPL");
