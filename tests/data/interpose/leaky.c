// SPDX-License-Identifier: GPL-2.0-only
/* What is taken and not given back, and given back twice; with clean=1 all of it in order. */
#include <linux/cdev.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

static bool clean;
module_param(clean, bool, 0444);

static char *small, *large;
static dev_t numbers;
static struct proc_dir_entry *entry;
static struct dentry *directory;
static struct workqueue_struct *queue;

static int __init leaky_init(void)
{
	small = kmalloc(10, GFP_KERNEL);
	large = kmalloc(3000, GFP_KERNEL);
	if (!small || !large || alloc_chrdev_region(&numbers, 0, 1, "leaky"))
		return -ENOMEM;
	entry = proc_mkdir("leaky", NULL);
	directory = debugfs_create_dir("leaky", NULL);
	queue = alloc_workqueue("leaky%d%s", WQ_UNBOUND, 1, 3, "abc");
	return 0;
}

static void __exit leaky_exit(void)
{
	destroy_workqueue(queue);
	debugfs_remove(directory);
	proc_remove(entry);
	kfree(large);
	if (clean) {
		unregister_chrdev_region(numbers, 1);
		kfree(small);
	} else {
		kfree(large);
	}
	pr_info("exit\n");
}

module_init(leaky_init);
module_exit(leaky_exit);
MODULE_DESCRIPTION("takes, and does not give back");
MODULE_LICENSE("GPL");
