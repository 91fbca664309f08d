// SPDX-License-Identifier: GPL-2.0-only
/* init never returns: it sleeps */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init sleeper_init(void)
{
	pr_info("sleeping\n");
	for (;;)
		msleep(100);

	return 0;
}

static void __exit sleeper_exit(void)
{
}

module_init(sleeper_init);
module_exit(sleeper_exit);

MODULE_DESCRIPTION("init never returns: it sleeps");
MODULE_LICENSE("GPL");
