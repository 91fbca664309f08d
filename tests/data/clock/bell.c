// SPDX-License-Identifier: GPL-2.0-only
/* One of two modules, which needs the other. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "clockwork.h"

static int __init bell_init(void)
{
	pr_info("%d times\n", clockwork_tick());
	return 0;
}

static void __exit bell_exit(void)
{
}

module_init(bell_init);
module_exit(bell_exit);

MODULE_DESCRIPTION("calls a function of clockwork");
MODULE_LICENSE("GPL");
