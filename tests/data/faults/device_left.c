// SPDX-License-Identifier: GPL-2.0-only
/* Memory is short, and the device stays registered. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>

static const struct file_operations ops = { .owner = THIS_MODULE };
static struct miscdevice device = { .minor = MISC_DYNAMIC_MINOR, .name = "device_left", .fops = &ops };
static char *buffer;

static int __init device_left_init(void)
{
	int err = misc_register(&device);

	if (err)
		return err;
	buffer = kzalloc(4096, GFP_KERNEL);
	if (!buffer) {
#ifdef FIXED
		misc_deregister(&device);
#endif
		return -ENOMEM;
	}
	return 0;
}

static void __exit device_left_exit(void)
{
	misc_deregister(&device);
	kfree(buffer);
}

module_init(device_left_init);
module_exit(device_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
