// SPDX-License-Identifier: GPL-2.0-only
/* twice - two functions of one name, of different sizes */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "twice.h"

static noinline int helper(void)
{
	return *(volatile int *)&helped;
}

static int __init twice_init(void)
{
	return helper() + other() ? -EINVAL : 0;
}
module_init(twice_init);

int helped;

MODULE_DESCRIPTION("two functions of one name");
MODULE_LICENSE("GPL");
