// SPDX-License-Identifier: GPL-2.0-only
/*
 * hangs - does not return, in the way that `what` names
 *
 * `where` is init, exit, or write: of the parameter `trigger`.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/processor.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>

static char *what = "nothing";
module_param(what, charp, 0644);
MODULE_PARM_DESC(what, "which way");

static char *where = "init";
module_param(where, charp, 0);
MODULE_PARM_DESC(where, "init, exit or write");

static volatile int forever = 1;
static struct task_struct *thread;

static noinline void loop(void)
{
	while (forever)
		cpu_relax();
}

static noinline void hang_irqs_off(void)
{
	local_irq_disable();
	loop();
	local_irq_enable();
}

static noinline void hang_preempt_off(void)
{
	preempt_disable();
	loop();
	preempt_enable();
}

static noinline void hang_waiting(void)
{
	static DECLARE_WAIT_QUEUE_HEAD(queue);

	wait_event(queue, !forever);
}

static noinline void hang_mutex(void)
{
	static DEFINE_MUTEX(lock);

	mutex_lock(&lock);
	mutex_lock(&lock);
}

static noinline void hang_sleeping(void)
{
	while (forever)
		msleep(100);
}

static noinline void hang_spinlock(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	spin_lock(&lock);
}

static noinline int deaf(void *unused)
{
	while (forever)
		msleep(100);
	return 0;
}

static noinline void hang_kthread(void)
{
	thread = kthread_run(deaf, NULL, "hangs_deaf");
	msleep(10);
	if (!IS_ERR(thread))
		kthread_stop(thread);
}

static const struct {
	const char *name;
	void (*hang)(void);
} ways[] = {
	{ "irqs_off", hang_irqs_off },
	{ "preempt_off", hang_preempt_off },
	{ "waiting", hang_waiting },
	{ "mutex", hang_mutex },
	{ "sleeping", hang_sleeping },
	{ "spinlock", hang_spinlock },
	{ "kthread", hang_kthread },
};

static void hang(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(what, ways[i].name))
			ways[i].hang();
}

static int trigger_set(const char *value, const struct kernel_param *kp)
{
	if (!strcmp(where, "write"))
		hang();
	return 0;
}

static int trigger_get(char *buffer, const struct kernel_param *kp)
{
	if (!strcmp(where, "read"))
		hang();
	return sprintf(buffer, "0\n");
}

static const struct kernel_param_ops trigger_ops = { .set = trigger_set, .get = trigger_get };
module_param_cb(trigger, &trigger_ops, NULL, 0644);
MODULE_PARM_DESC(trigger, "hangs when it is written or read, where `where` says so");

static int __init hangs_init(void)
{
	if (!strcmp(where, "init"))
		hang();
	return 0;
}

static void __exit hangs_exit(void)
{
	if (!strcmp(where, "exit"))
		hang();
}

module_init(hangs_init);
module_exit(hangs_exit);

MODULE_DESCRIPTION("does not return");
MODULE_LICENSE("GPL");
