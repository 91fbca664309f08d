// SPDX-License-Identifier: GPL-2.0-only
/* The reader's buffer is bad, and the lock stays. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>

static DEFINE_MUTEX(lock);

static ssize_t read_locked_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	ssize_t done = 0;

	mutex_lock(&lock);
	if (!*at) {
		if (copy_to_user(to, "text\n", 5)) {
#ifdef FIXED
			mutex_unlock(&lock);
#endif
			return -EFAULT;
		}
		done = *at = 5;
	}
	mutex_unlock(&lock);
	return done;
}
static const struct proc_ops ops = { .proc_read = read_locked_read };

static int __init read_locked_init(void)
{
	return proc_create("read_locked", 0444, NULL, &ops) ? 0 : -ENOMEM;
}

static void __exit read_locked_exit(void)
{
	remove_proc_entry("read_locked", NULL);
}

module_init(read_locked_init);
module_exit(read_locked_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
