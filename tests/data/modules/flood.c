// SPDX-License-Identifier: GPL-2.0-only
/* init prints 100000 lines */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#define LINES	100000

static int __init flood_init(void)
{
	int i;

	for (i = 0; i < LINES; i++)
		pr_info("line %d\n", i);

	return 0;
}

static void __exit flood_exit(void)
{
}

module_init(flood_init);
module_exit(flood_exit);

MODULE_DESCRIPTION("init prints 100000 lines");
MODULE_LICENSE("GPL");
