// SPDX-License-Identifier: GPL-2.0-only
/* The device numbers stay taken. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

static dev_t numbers;
static char *buffer;

static int __init numbers_left_init(void)
{
	int err = alloc_chrdev_region(&numbers, 0, 4, "numbers_left");

	if (err)
		return err;
	buffer = kmalloc(100, GFP_KERNEL);
	if (buffer)
		return 0;
#ifdef FIXED
	unregister_chrdev_region(numbers, 4);
#endif
	return -ENOMEM;
}

static void __exit numbers_left_exit(void)
{
	unregister_chrdev_region(numbers, 4);
	kfree(buffer);
}

module_init(numbers_left_init);
module_exit(numbers_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
