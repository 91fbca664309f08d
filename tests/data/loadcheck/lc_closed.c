// SPDX-License-Identifier: GPL-2.0-only
/* Proprietary, as far as its modinfo says. */
#include <linux/init.h>
#include <linux/module.h>

int lc_closed_answer(void);

int lc_closed_answer(void)
{
	return 42;
}
EXPORT_SYMBOL(lc_closed_answer);

static int __init lc_closed_init(void)
{
	return 0;
}

static void __exit lc_closed_exit(void)
{
}

module_init(lc_closed_init);
module_exit(lc_closed_exit);

MODULE_LICENSE("Proprietary");
MODULE_DESCRIPTION("A proprietary module");
