// SPDX-License-Identifier: GPL-2.0-only
/* The third allocation fails, and the second is forgotten. */
#include <linux/module.h>
#include <linux/slab.h>

static char *a, *b, *c;

static int __init third_kfree_init(void)
{
	a = kmalloc(100, GFP_KERNEL);
	if (!a)
		return -ENOMEM;
	b = kmalloc(200, GFP_KERNEL);
	if (!b)
		goto free_a;
	c = kmalloc(300, GFP_KERNEL);
	if (!c)
		goto free_b;
	return 0;
free_b:
#ifdef FIXED
	kfree(b);
#endif
free_a:
	kfree(a);
	return -ENOMEM;
}

static void __exit third_kfree_exit(void)
{
	kfree(c);
	kfree(b);
	kfree(a);
}

module_init(third_kfree_init);
module_exit(third_kfree_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
