// SPDX-License-Identifier: GPL-2.0-only
/*
 * once - starts something that fires once, and forgets it or not
 *
 * `what` names what init starts, `ms` when it fires. It harms nobody while the
 * module is there; exit takes it back unless it `forgets`.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/workqueue.h>

static char *what = "timer";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "timer, heap_timer, hrtimer, work, kthread");

static unsigned int ms = 1000;
module_param(ms, uint, 0);
MODULE_PARM_DESC(ms, "milliseconds until it fires");

static bool forgets;
module_param(forgets, bool, 0);
MODULE_PARM_DESC(forgets, "whether exit leaves it");

static noinline void once_timer(struct timer_list *timer)
{
	pr_info("the timer fired\n");
}

static noinline enum hrtimer_restart once_hrtimer(struct hrtimer *timer)
{
	pr_info("the hrtimer fired\n");
	return HRTIMER_NORESTART;
}

static noinline void once_work(struct work_struct *work)
{
	pr_info("the work ran\n");
}

static noinline int once_kthread(void *unused)
{
	msleep(ms);
	pr_info("the thread ran\n");
	while (!forgets && !kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	return 0;
}

static DEFINE_TIMER(timer, once_timer);
static DECLARE_DELAYED_WORK(work, once_work);
static struct timer_list *heap_timer; /* where it is forgotten its memory outlives the module */
static struct hrtimer *hrtimer;
static struct task_struct *thread;

static int start_heap_timer(void)
{
	heap_timer = kzalloc(sizeof(*heap_timer), GFP_KERNEL);
	if (!heap_timer)
		return -ENOMEM;
	timer_setup(heap_timer, once_timer, 0);
	mod_timer(heap_timer, jiffies + msecs_to_jiffies(ms));
	return 0;
}

static int start_hrtimer(void)
{
	hrtimer = kzalloc(sizeof(*hrtimer), GFP_KERNEL);
	if (!hrtimer)
		return -ENOMEM;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hrtimer->function = once_hrtimer;
#else
	hrtimer_setup(hrtimer, once_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#endif
	hrtimer_start(hrtimer, ms_to_ktime(ms), HRTIMER_MODE_REL);
	return 0;
}

static int start_kthread(void)
{
	thread = kthread_run(once_kthread, NULL, "once_kthread");
	return PTR_ERR_OR_ZERO(thread);
}

static int __init once_init(void)
{
	unsigned long after = msecs_to_jiffies(ms);

	pr_info("starting\n");
	if (!strcmp(what, "heap_timer"))
		return start_heap_timer();
	if (!strcmp(what, "hrtimer"))
		return start_hrtimer();
	if (!strcmp(what, "kthread"))
		return start_kthread();
	if (!strcmp(what, "timer"))
		mod_timer(&timer, jiffies + after);
	else if (!strcmp(what, "work"))
		schedule_delayed_work(&work, after);
	return 0;
}

static void stop_timer(struct timer_list *which)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	del_timer_sync(which);
#else
	timer_delete_sync(which);
#endif
}

static void __exit once_exit(void)
{
	if (forgets)
		return;
	stop_timer(&timer);
	cancel_delayed_work_sync(&work);
	if (heap_timer)
		stop_timer(heap_timer);
	if (hrtimer)
		hrtimer_cancel(hrtimer);
	if (thread)
		kthread_stop(thread);
	kfree(heap_timer);
	kfree(hrtimer);
}

module_init(once_init);
module_exit(once_exit);

MODULE_DESCRIPTION("starts something that fires once, and forgets it or not");
MODULE_LICENSE("GPL");
