// SPDX-License-Identifier: GPL-2.0-only
/*
 * late - goes wrong some time after its load or its unload
 *
 * `what` names what is started by init and, but for `oops_later`, forgotten by
 * exit; `ms` is how often it fires; `result` is what init returns.
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
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "what is forgotten: timer, work, kthread, oops_later, nothing");

static unsigned int ms = 500;
module_param(ms, uint, 0);
MODULE_PARM_DESC(ms, "milliseconds between two times that it fires");

static int result;
module_param(result, int, 0);
MODULE_PARM_DESC(result, "what init returns");

static volatile int fired;

static noinline void late_timer(struct timer_list *timer)
{
	fired++;
	mod_timer(timer, jiffies + msecs_to_jiffies(ms));
}

static noinline void late_work(struct work_struct *work)
{
	fired++;
	schedule_delayed_work(to_delayed_work(work), msecs_to_jiffies(ms));
}

static noinline void late_oops(struct work_struct *work)
{
	*(volatile int *)NULL = fired;
}

static noinline int late_kthread(void *unused)
{
	while (!kthread_should_stop()) {
		msleep(ms);
		fired++;
	}
	return 0;
}

static DEFINE_TIMER(timer, late_timer);
static DECLARE_DELAYED_WORK(work, late_work);
static DECLARE_DELAYED_WORK(oops, late_oops);

static int __init late_init(void)
{
	unsigned long after = msecs_to_jiffies(ms);

	if (!strcmp(what, "timer"))
		mod_timer(&timer, jiffies + after);
	else if (!strcmp(what, "work"))
		schedule_delayed_work(&work, after);
	else if (!strcmp(what, "oops_later"))
		schedule_delayed_work(&oops, after);
	else if (!strcmp(what, "kthread") &&
		 IS_ERR(kthread_run(late_kthread, NULL, "late_kthread")))
		return -ENOMEM;
	return result;
}

static void __exit late_exit(void)
{
	cancel_delayed_work_sync(&oops);
}

module_init(late_init);
module_exit(late_exit);

MODULE_DESCRIPTION("goes wrong some time after its load or its unload");
MODULE_LICENSE("GPL");
