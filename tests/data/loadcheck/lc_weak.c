// SPDX-License-Identifier: GPL-2.0-only
/* A weak symbol that nobody has. */
#include <linux/init.h>
#include <linux/module.h>

extern int lc_nobody_has_this(void) __weak;

static int __init lc_weak_init(void)
{
	if (lc_nobody_has_this)
		return lc_nobody_has_this();
	return 0;
}

static void __exit lc_weak_exit(void)
{
}

module_init(lc_weak_init);
module_exit(lc_weak_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A weak symbol");
