// SPDX-License-Identifier: GPL-2.0-only
/*
 * stuck - /dev/stuck, each of whose operations goes wrong in its own way
 *
 * read never returns, write oopses, an ioctl panics, and a mapping has no
 * pages behind it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/printk.h>

static DECLARE_COMPLETION(never);

static ssize_t stuck_read(struct file *file, char __user *to, size_t count,
			  loff_t *ppos)
{
	pr_info("read\n");
	wait_for_completion(&never);
	return 0;
}

static ssize_t stuck_write(struct file *file, const char __user *from,
			   size_t count, loff_t *ppos)
{
	int *volatile nowhere = NULL;

	*nowhere = count;
	return count;
}

static long stuck_ioctl(struct file *file, unsigned int request,
			unsigned long argument)
{
	if (!request)
		return -ENOTTY;
	panic("stuck: ioctl %u", request);
}

static vm_fault_t stuck_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct stuck_vm_ops = {
	.fault = stuck_fault,
};

static int stuck_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &stuck_vm_ops;
	return 0;
}

static const struct file_operations stuck_fops = {
	.owner = THIS_MODULE,
	.read = stuck_read,
	.write = stuck_write,
	.unlocked_ioctl = stuck_ioctl,
	.mmap = stuck_mmap,
};

static struct miscdevice stuck = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &stuck_fops,
};

static int __init stuck_init(void)
{
	return misc_register(&stuck);
}

static void __exit stuck_exit(void)
{
	misc_deregister(&stuck);
}

module_init(stuck_init);
module_exit(stuck_exit);

MODULE_DESCRIPTION("a device whose operations go wrong");
MODULE_LICENSE("GPL");
