// SPDX-License-Identifier: GPL-2.0-only
/*
 * mymodule - one module of three source files: this one has init
 */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "mymodule.h"

static int __init mymodule_init(void)
{
	pr_info("my_module: init\n");
	mymodule_sub();
	return 0;
}

module_init(mymodule_init);

/* Module information is given once, in any one of the files. */
MODULE_DESCRIPTION("module of several source files");
MODULE_LICENSE("GPL");
