// SPDX-License-Identifier: GPL-2.0-only
/* init warns, and succeeds */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static bool wrong = true;

static int __init warn_init(void)
{
	WARN_ON(READ_ONCE(wrong));
	pr_info("init\n");
	return 0;
}

static void __exit warn_exit(void)
{
}

module_init(warn_init);
module_exit(warn_exit);

MODULE_DESCRIPTION("init warns, and succeeds");
MODULE_LICENSE("GPL");
