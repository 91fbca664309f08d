// SPDX-License-Identifier: GPL-2.0-only
/* init never returns: it spins */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/processor.h>

static int __init spin_init(void)
{
	pr_info("spinning\n");
	for (;;)
		cpu_relax();

	return 0;
}

static void __exit spin_exit(void)
{
}

module_init(spin_init);
module_exit(spin_exit);

MODULE_DESCRIPTION("init never returns: it spins");
MODULE_LICENSE("GPL");
