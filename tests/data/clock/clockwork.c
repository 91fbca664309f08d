// SPDX-License-Identifier: GPL-2.0-only
/* What bell needs. */
#include <linux/init.h>
#include <linux/module.h>

#include "clockwork.h"

int clockwork_tick(void)
{
	return 7;
}
EXPORT_SYMBOL_GPL(clockwork_tick);

static int __init clockwork_init(void)
{
	return 0;
}

static void __exit clockwork_exit(void)
{
}

module_init(clockwork_init);
module_exit(clockwork_exit);

MODULE_DESCRIPTION("exports a function");
MODULE_LICENSE("GPL");
