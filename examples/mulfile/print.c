// SPDX-License-Identifier: GPL-2.0-only
/*
 * mymodule - a function that another file of the module calls
 */

#include <linux/printk.h>

#include "mymodule.h"

void mymodule_sub(void)
{
	pr_info("%s: called\n", __func__);
}
