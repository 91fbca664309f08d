// SPDX-License-Identifier: GPL-2.0-only
/* init returns -ENODEV */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init enodev_init(void)
{
	pr_info("no such device\n");
	return -ENODEV;
}

static void __exit enodev_exit(void)
{
}

module_init(enodev_init);
module_exit(enodev_exit);

MODULE_DESCRIPTION("init returns -ENODEV");
MODULE_LICENSE("GPL");
