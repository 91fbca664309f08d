// SPDX-License-Identifier: GPL-2.0-only
/*
 * mymodule - the file with exit
 */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static void __exit mymodule_exit(void)
{
	pr_info("my_module: exit\n");
}

module_exit(mymodule_exit);
