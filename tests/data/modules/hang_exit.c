// SPDX-License-Identifier: GPL-2.0-only
/* exit never returns */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init hang_exit_init(void)
{
	pr_info("init\n");
	return 0;
}

static void __exit hang_exit_exit(void)
{
	pr_info("exit\n");
	for (;;)
		msleep(100);
}

module_init(hang_exit_init);
module_exit(hang_exit_exit);

MODULE_DESCRIPTION("exit never returns");
MODULE_LICENSE("GPL");
