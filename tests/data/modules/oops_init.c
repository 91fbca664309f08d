// SPDX-License-Identifier: GPL-2.0-only
/* a function that init calls writes to NULL */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

/* volatile: the compiler must not see that this is NULL. */
static int *volatile nowhere;

static noinline void write_to_null(int value)
{
	*nowhere = value;
}

static int __init oops_init_init(void)
{
	pr_info("about to write to NULL\n");
	write_to_null(42);
	pr_info("not reached\n");
	return 0;
}

static void __exit oops_init_exit(void)
{
}

module_init(oops_init_init);
module_exit(oops_init_exit);

MODULE_DESCRIPTION("a function that init calls writes to NULL");
MODULE_LICENSE("GPL");
