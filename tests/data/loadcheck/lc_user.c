// SPDX-License-Identifier: GPL-2.0-only
/* Imports of each kind, from lc_given. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/version.h>

int lc_free_for_all(void);
int lc_gpl_only(void);
int lc_spaced(void);
int lc_for_friends(void);

static int __init lc_user_init(void)
{
	if (lc_free_for_all() + lc_gpl_only() + lc_spaced() + lc_for_friends() != 10)
		return -EINVAL;
	return 0;
}

static void __exit lc_user_exit(void)
{
}

module_init(lc_user_init);
module_exit(lc_user_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Imports");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(LC_SPACE);
#else
MODULE_IMPORT_NS("LC_SPACE");
#endif
