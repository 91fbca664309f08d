// SPDX-License-Identifier: GPL-2.0-only
/* A module with many calls that can fail, which undoes all of them in order: what bench.faults measures with. */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#define BUFFERS 20

static char *buffers[BUFFERS];
static char *big;
static dev_t number;
static struct cdev cdev;
static const struct file_operations many_fops = { .owner = THIS_MODULE };
static struct miscdevice misc = { .minor = MISC_DYNAMIC_MINOR, .name = "many", .fops = &many_fops };

static void free_buffers(void)
{
	int i;

	for (i = 0; i < BUFFERS; i++) {
		kfree(buffers[i]);
		buffers[i] = NULL;
	}
}

static int __init many_init(void)
{
	int i, err = -ENOMEM;

	for (i = 0; i < BUFFERS; i++) {
		buffers[i] = kmalloc(100 + i, GFP_KERNEL);
		if (!buffers[i])
			goto free;
	}
	big = vmalloc(100000);
	if (!big)
		goto free;
	err = alloc_chrdev_region(&number, 0, 1, "many");
	if (err)
		goto free_big;
	cdev_init(&cdev, &many_fops);
	err = cdev_add(&cdev, number, 1);
	if (err)
		goto unregister;
	err = misc_register(&misc);
	if (err)
		goto del;
	return 0;
del:
	cdev_del(&cdev);
unregister:
	unregister_chrdev_region(number, 1);
free_big:
	vfree(big);
free:
	free_buffers();
	return err;
}

static void __exit many_exit(void)
{
	misc_deregister(&misc);
	cdev_del(&cdev);
	unregister_chrdev_region(number, 1);
	vfree(big);
	free_buffers();
}

module_init(many_init);
module_exit(many_exit);

MODULE_DESCRIPTION("many calls that can fail");
MODULE_LICENSE("GPL");
