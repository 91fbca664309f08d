// SPDX-License-Identifier: GPL-2.0-only
/*
 * chardev - /dev/chardev, memory that many can read while one writes
 *
 * What is written stays, and everybody reads it from the beginning, each at a
 * position of their own. A reader who has come to the end of what was written
 * waits for more, as `tail -f` does; at the end of the device there is no more
 * to wait for. poll(2), O_NONBLOCK, O_APPEND, O_TRUNC and mmap(2) work.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/minmax.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/printk.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "chardev.h"

static unsigned int capacity = SZ_64K;
module_param(capacity, uint, 0444);
MODULE_PARM_DESC(capacity, "bytes that the device can hold, 1 to 16777216");

/**
 * struct store - what the device holds
 * @lock:	for @size, @length, and what is copied to and from @data
 * @readers:	those who wait for more data
 * @data:	as many bytes as the parameter says; it stays where it is, so
 *		mmap(2) needs no lock
 * @size:	how many of them can be used now
 * @length:	how many have been written
 */
static struct store {
	struct mutex lock;
	wait_queue_head_t readers;
	char *data;
	size_t size;
	size_t length;
} store = {
	.lock = __MUTEX_INITIALIZER(store.lock),
	.readers = __WAIT_QUEUE_HEAD_INITIALIZER(store.readers),
};

static void store_truncate(size_t length)
{
	if (length < store.length) {
		memset(store.data + length, 0, store.length - length);
		store.length = length;
	}
}

static bool store_is_readable(loff_t pos)
{
	return pos < READ_ONCE(store.length) || pos >= READ_ONCE(store.size);
}

static int chardev_open(struct inode *inode, struct file *file)
{
	if (file->f_flags & O_TRUNC) {
		mutex_lock(&store.lock);
		store_truncate(0);
		mutex_unlock(&store.lock);
	}
	return 0;
}

static loff_t chardev_llseek(struct file *file, loff_t offset, int whence)
{
	return generic_file_llseek_size(file, offset, whence, READ_ONCE(store.size),
					READ_ONCE(store.length));
}

static ssize_t chardev_read(struct file *file, char __user *to, size_t count,
			    loff_t *ppos)
{
	ssize_t n;

	if (mutex_lock_interruptible(&store.lock))
		return -ERESTARTSYS;
	while (!store_is_readable(*ppos)) {
		mutex_unlock(&store.lock);
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(store.readers, store_is_readable(*ppos)))
			return -ERESTARTSYS;
		if (mutex_lock_interruptible(&store.lock))
			return -ERESTARTSYS;
	}
	n = simple_read_from_buffer(to, count, ppos, store.data, store.length);
	mutex_unlock(&store.lock);
	return n;
}

static ssize_t chardev_write(struct file *file, const char __user *from,
			     size_t count, loff_t *ppos)
{
	ssize_t n = -ENOSPC;

	if (mutex_lock_interruptible(&store.lock))
		return -ERESTARTSYS;
	if (file->f_flags & O_APPEND)
		*ppos = store.length;
	if (*ppos < store.size || !count)
		n = simple_write_to_buffer(store.data, store.size, ppos, from, count);
	if (n > 0)
		store.length = max_t(size_t, store.length, *ppos);
	mutex_unlock(&store.lock);
	if (n > 0)
		wake_up_interruptible(&store.readers);
	return n;
}

static __poll_t chardev_poll(struct file *file, poll_table *wait)
{
	__poll_t events = 0;

	poll_wait(file, &store.readers, wait);
	if (store_is_readable(file->f_pos))
		events |= EPOLLIN | EPOLLRDNORM;
	if (file->f_pos < READ_ONCE(store.size))
		events |= EPOLLOUT | EPOLLWRNORM;
	return events;
}

static int chardev_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, store.data, vma->vm_pgoff);
}

static long store_resize(u64 size)
{
	if (!size || size > capacity)
		return -EINVAL;
	if (mutex_lock_interruptible(&store.lock))
		return -ERESTARTSYS;
	store_truncate(size);
	store.size = size;
	mutex_unlock(&store.lock);
	wake_up_interruptible(&store.readers);
	return 0;
}

static long chardev_ioctl(struct file *file, unsigned int request,
			  unsigned long argument)
{
	u64 __user *user = (u64 __user *)argument;
	u64 size;

	switch (request) {
	case CHARDEV_GET_SIZE:
		return put_user((u64)READ_ONCE(store.size), user);
	case CHARDEV_SET_SIZE:
		if (get_user(size, user))
			return -EFAULT;
		return store_resize(size);
	case CHARDEV_RESET:
		if (mutex_lock_interruptible(&store.lock))
			return -ERESTARTSYS;
		store_truncate(0);
		mutex_unlock(&store.lock);
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations chardev_fops = {
	.owner = THIS_MODULE,
	.open = chardev_open,
	.llseek = chardev_llseek,
	.read = chardev_read,
	.write = chardev_write,
	.poll = chardev_poll,
	.mmap = chardev_mmap,
	.unlocked_ioctl = chardev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice chardev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &chardev_fops,
	.mode = 0666,
};

static int __init chardev_init(void)
{
	int error;

	if (!capacity || capacity > SZ_16M) {
		pr_err("capacity=%u is not between 1 and %u\n", capacity, SZ_16M);
		return -EINVAL;
	}
	store.size = capacity;
	store.data = vmalloc_user(capacity);
	if (!store.data)
		return -ENOMEM;
	error = misc_register(&chardev);
	if (error) {
		vfree(store.data);
		return error;
	}
	pr_info("%zu bytes at /dev/%s\n", store.size, chardev.name);
	return 0;
}

static void __exit chardev_exit(void)
{
	misc_deregister(&chardev);
	vfree(store.data);
}

module_init(chardev_init);
module_exit(chardev_exit);

MODULE_DESCRIPTION("memory as a character device");
MODULE_LICENSE("GPL");
