// SPDX-License-Identifier: GPL-2.0-only
/* init panics */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init panics_init(void)
{
	pr_info("about to panic\n");
	panic("panics: asked for");

	return 0;
}

static void __exit panics_exit(void)
{
}

module_init(panics_init);
module_exit(panics_exit);

MODULE_DESCRIPTION("init panics");
MODULE_LICENSE("GPL");
