// SPDX-License-Identifier: GPL-2.0-only
/* The timer runs on without the module. */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/timer.h>

static char *buffer;

static void fires(struct timer_list *timer)
{
}
static DEFINE_TIMER(timer, fires);

#ifndef timer_container_of /* 6.16 renamed both */
#define stop_timer del_timer_sync
#else
#define stop_timer timer_delete_sync
#endif

static int __init timer_left_init(void)
{
	mod_timer(&timer, jiffies + 10 * HZ);
	buffer = kmalloc(100, GFP_KERNEL);
	if (buffer)
		return 0;
#ifdef FIXED
	stop_timer(&timer);
#endif
	return -ENOMEM;
}

static void __exit timer_left_exit(void)
{
	stop_timer(&timer);
	kfree(buffer);
}

module_init(timer_left_init);
module_exit(timer_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
