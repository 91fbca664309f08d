// SPDX-License-Identifier: GPL-2.0-only
/* The notifier stays in its chain. */
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/slab.h>

static int notified(struct notifier_block *block, unsigned long action, void *data)
{
	return NOTIFY_DONE;
}
static struct notifier_block block = { .notifier_call = notified };
static char *buffer;

static int __init notifier_left_init(void)
{
	int err = register_reboot_notifier(&block);

	if (err)
		return err;
	buffer = kmalloc(100, GFP_KERNEL);
	if (buffer)
		return 0;
#ifdef FIXED
	unregister_reboot_notifier(&block);
#endif
	return -ENOMEM;
}

static void __exit notifier_left_exit(void)
{
	unregister_reboot_notifier(&block);
	kfree(buffer);
}

module_init(notifier_left_init);
module_exit(notifier_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
