// SPDX-License-Identifier: GPL-2.0-only
/* vmalloc() memory goes to kfree(). */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

static char *large, *small;

static int __init wrong_partner_init(void)
{
	large = vmalloc(100000);
	if (!large)
		return -ENOMEM;
	small = kmalloc(100, GFP_KERNEL);
	if (small)
		return 0;
#ifdef FIXED
	vfree(large);
#else
	kfree(large);
#endif
	return -ENOMEM;
}

static void __exit wrong_partner_exit(void)
{
	kfree(small);
	vfree(large);
}

module_init(wrong_partner_init);
module_exit(wrong_partner_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
