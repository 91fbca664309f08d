// SPDX-License-Identifier: GPL-2.0-only
/* The error path returns with the mutex locked. */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

static DEFINE_MUTEX(lock);
static char *buffer;

static int __init lock_kept_init(void)
{
	mutex_lock(&lock);
	buffer = kmalloc(64, GFP_KERNEL);
	if (!buffer) {
#ifdef FIXED
		mutex_unlock(&lock);
#endif
		return -ENOMEM;
	}
	mutex_unlock(&lock);
	return 0;
}

static void __exit lock_kept_exit(void)
{
	mutex_lock(&lock);
	kfree(buffer);
	mutex_unlock(&lock);
}

module_init(lock_kept_init);
module_exit(lock_kept_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
