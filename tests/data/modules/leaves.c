// SPDX-License-Identifier: GPL-2.0-only
/*
 * leaves - leaves something behind when it is unloaded
 *
 * `what` names it. With `fails` init makes it, and then fails without taking
 * it back.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/etherdevice.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/printk.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "what is left behind");

static bool fails;
module_param(fails, bool, 0);
MODULE_PARM_DESC(fails, "init fails, too");

/* The kernel looks at these after the module has gone: they are not in its memory. */
static struct file_operations *leaves_fops;
static struct net_device_ops *leaves_netdev_ops;

static int leave_nothing(void)
{
	return 0;
}

static int leave_proc(void)
{
	return proc_mkdir("leaves_proc", NULL) ? 0 : -ENOMEM;
}

static int leave_debugfs(void)
{
	debugfs_create_dir("leaves_debugfs", NULL);
	return 0;
}

static int leave_kobject(void)
{
	return kobject_create_and_add("leaves_kobject", kernel_kobj) ? 0 : -ENOMEM;
}

static int leave_chrdev(void)
{
	int major;

	leaves_fops = kzalloc(sizeof(*leaves_fops), GFP_KERNEL);
	major = register_chrdev(0, "leaves_chrdev", leaves_fops);
	return major < 0 ? major : 0;
}

static int leave_cache(void)
{
	char *name = kstrdup("leaves_cache", GFP_KERNEL);

	return kmem_cache_create(name, 840, 0, SLAB_ACCOUNT, NULL) ? 0 : -ENOMEM;
}

static int leave_netdev(void)
{
	struct net_device *dev = alloc_etherdev(0);

	leaves_netdev_ops = kzalloc(sizeof(*leaves_netdev_ops), GFP_KERNEL);
	dev->netdev_ops = leaves_netdev_ops;
	strcpy(dev->name, "leaves%d");
	return register_netdev(dev);
}

static noinline int leaves_sleeper(void *unused)
{
	for (;;)
		ssleep(1000);
	return 0;
}

static int leave_kthread(void)
{
	return PTR_ERR_OR_ZERO(kthread_run(leaves_sleeper, NULL, "leaves_kthread"));
}

static int leave_reference(void)
{
	__module_get(THIS_MODULE);
	return 0;
}

static const struct {
	const char *name;
	int (*leave)(void);
} ways[] = {
	{ "nothing", leave_nothing },
	{ "proc", leave_proc },
	{ "debugfs", leave_debugfs },
	{ "kobject", leave_kobject },
	{ "chrdev", leave_chrdev },
	{ "cache", leave_cache },
	{ "netdev", leave_netdev },
	{ "kthread", leave_kthread },
	{ "reference", leave_reference },
};

static int __init leaves_init(void)
{
	int i, error;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(what, ways[i].name)) {
			error = ways[i].leave();
			return error ?: fails ? -ENODEV : 0;
		}
	return -EINVAL;
}

static void __exit leaves_exit(void)
{
}

module_init(leaves_init);
module_exit(leaves_exit);

MODULE_DESCRIPTION("leaves something behind");
MODULE_LICENSE("GPL");
