// SPDX-License-Identifier: GPL-2.0-only
/* init is a BUG() */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init bug_init(void)
{
	pr_info("about to BUG\n");
	BUG();

	return 0;
}

static void __exit bug_exit(void)
{
}

module_init(bug_init);
module_exit(bug_exit);

MODULE_DESCRIPTION("init is a BUG()");
MODULE_LICENSE("GPL");
