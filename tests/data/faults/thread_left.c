// SPDX-License-Identifier: GPL-2.0-only
/* The thread runs on without the module. */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/slab.h>

static struct task_struct *task;
static char *buffer;

static int work(void *data)
{
	while (!kthread_should_stop())
		schedule_timeout_interruptible(10 * HZ);
	return 0;
}

static int __init thread_left_init(void)
{
	task = kthread_run(work, NULL, "thread_left");
	if (IS_ERR(task))
		return PTR_ERR(task);
	buffer = kmalloc(100, GFP_KERNEL);
	if (buffer)
		return 0;
#ifdef FIXED
	kthread_stop(task);
#endif
	return -ENOMEM;
}

static void __exit thread_left_exit(void)
{
	kthread_stop(task);
	kfree(buffer);
}

module_init(thread_left_init);
module_exit(thread_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
