// SPDX-License-Identifier: GPL-2.0-only
/* The reader's buffer is bad, and ours is forgotten. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static ssize_t read_leak_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	char *text;

	if (*at)
		return 0;
	text = kstrdup("text\n", GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	if (copy_to_user(to, text, 5)) {
#ifdef FIXED
		kfree(text);
#endif
		return -EFAULT;
	}
	kfree(text);
	*at = 5;
	return 5;
}
static const struct proc_ops ops = { .proc_read = read_leak_read };

static int __init read_leak_init(void)
{
	return proc_create("read_leak", 0444, NULL, &ops) ? 0 : -ENOMEM;
}

static void __exit read_leak_exit(void)
{
	remove_proc_entry("read_leak", NULL);
}

module_init(read_leak_init);
module_exit(read_leak_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
