// SPDX-License-Identifier: GPL-2.0-only
/* Exports of each kind. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/version.h>

int lc_free_for_all(void);
int lc_gpl_only(void);
int lc_spaced(void);
int lc_for_friends(void);
int lfree(void);

int lc_free_for_all(void)
{
	return 1;
}
EXPORT_SYMBOL(lc_free_for_all);

int lc_gpl_only(void)
{
	return 2;
}
EXPORT_SYMBOL_GPL(lc_gpl_only);

int lc_spaced(void)
{
	return 3;
}
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
EXPORT_SYMBOL_NS_GPL(lc_spaced, LC_SPACE);
#else
EXPORT_SYMBOL_NS_GPL(lc_spaced, "LC_SPACE");
#endif

int lc_for_friends(void)
{
	return 4;
}
#ifdef EXPORT_SYMBOL_FOR_MODULES
EXPORT_SYMBOL_FOR_MODULES(lc_for_friends, "lc_user,lc_fr*");
#else
EXPORT_SYMBOL_GPL(lc_for_friends);
#endif

int lfree(void)
{
	return 5;
}
EXPORT_SYMBOL(lfree);

static int __init lc_given_init(void)
{
	return 0;
}

static void __exit lc_given_exit(void)
{
}

module_init(lc_given_init);
module_exit(lc_given_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Exports");
