// SPDX-License-Identifier: GPL-2.0-only
/* What a debug kernel finds: one mistake a run, chosen by name. The line to be named ends in "here". */

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

static char *what = "nothing";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "the mistake to make");

struct owner {
	struct timer_list timer;
	struct work_struct work;
	int value;
};

static int table[4] = { 1, 2, 3, 4 };
static DEFINE_SPINLOCK(spin);
static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static void *kept;
static volatile int four = 4, forty = 40;

static noinline void slab_out_of_bounds(void)
{
	char *buffer = kmalloc(13, GFP_KERNEL);

	if (!buffer)
		return;
	OPTIMIZER_HIDE_VAR(buffer);
	buffer[13] = 'x'; /* slab_out_of_bounds here */
	kfree(buffer);
}

static noinline void stack_out_of_bounds(void)
{
	char buffer[16];
	char *p = buffer;

	memset(buffer, 0, sizeof(buffer));
	OPTIMIZER_HIDE_VAR(p);
	p[16] = 'x'; /* stack_out_of_bounds here */
}

static noinline void global_out_of_bounds(void)
{
	int *p = table;

	OPTIMIZER_HIDE_VAR(p);
	pr_info("past the end: %d\n", p[four]); /* global_out_of_bounds here */
}

static noinline void vmalloc_out_of_bounds(void)
{
	char *area = vmalloc(PAGE_SIZE);

	if (!area)
		return;
	OPTIMIZER_HIDE_VAR(area);
	area[PAGE_SIZE] = 'x'; /* vmalloc_out_of_bounds here */
	vfree(area);
}

static noinline void use_after_free(void)
{
	struct owner *owner = kmalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	OPTIMIZER_HIDE_VAR(owner);
	kfree(owner);
	owner->value = 1; /* use_after_free here */
}

static noinline void double_free(void)
{
	char *buffer = kmalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(buffer);
	kfree(buffer);
	kfree(buffer); /* double_free here */
}

static noinline void bad_copy(void)
{
	char *buffer = kmalloc(8, GFP_KERNEL);
	size_t length = 2 * four;

	if (!buffer)
		return;
	memset(buffer, 0, length + 1); /* bad_copy here */
	kfree(buffer);
}

static noinline void leak(void)
{
	char *lost = kmalloc(100, GFP_KERNEL); /* leak here */

	if (lost)
		strscpy(lost, "nobody frees this", 100);
}

static noinline void leak_at_exit(void)
{
	kept = kzalloc(200, GFP_KERNEL); /* leak_at_exit here */
}

static noinline void leak_vmalloc(void)
{
	char *lost = vmalloc(PAGE_SIZE); /* leak_vmalloc here */

	if (lost)
		lost[0] = 'x';
}

static noinline void abba(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first); /* abba here */
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static noinline void sleep_under_spinlock(void)
{
	spin_lock(&spin);
	msleep(1); /* sleep_under_spinlock here */
	spin_unlock(&spin);
}

static void rings(struct timer_list *timer)
{
	pr_info("the timer rings\n");
}

static void works(struct work_struct *work)
{
	msleep(100);
}

static noinline void uninitialised_timer(void)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	mod_timer(&owner->timer, jiffies + HZ); /* uninitialised_timer here */
	kfree(owner);
}

static noinline void freed_timer(void)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	timer_setup(&owner->timer, rings, 0);
	mod_timer(&owner->timer, jiffies + HZ);
	kfree(owner); /* freed_timer here */
}

static noinline void uninitialised_work(void)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	schedule_work(&owner->work); /* uninitialised_work here */
	kfree(owner);
}

static noinline void freed_work(void)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	INIT_WORK(&owner->work, works);
	preempt_disable(); /* or it may be at work before it is freed */
	schedule_work(&owner->work);
	kfree(owner); /* freed_work here */
	preempt_enable();
}

static noinline void shift(void)
{
	pr_info("shifted: %d\n", 1 << forty); /* shift here */
}

static noinline void bad_index(void)
{
	pr_info("beyond: %d\n", table[four]); /* bad_index here */
}

static noinline void nothing(void)
{
	struct owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return;
	timer_setup(&owner->timer, rings, 0);
	mod_timer(&owner->timer, jiffies + HZ);
	del_timer_sync(&owner->timer);
	kfree(owner);
}

#define CASE(name) { #name, name }

static const struct {
	const char *name;
	void (*make)(void);
} cases[] = {
	CASE(nothing), CASE(slab_out_of_bounds), CASE(stack_out_of_bounds), CASE(global_out_of_bounds),
	CASE(vmalloc_out_of_bounds), CASE(use_after_free), CASE(double_free), CASE(bad_copy), CASE(leak),
	CASE(leak_at_exit), CASE(leak_vmalloc), CASE(abba), CASE(sleep_under_spinlock),
	CASE(uninitialised_timer), CASE(freed_timer), CASE(uninitialised_work), CASE(freed_work),
	CASE(shift), CASE(bad_index),
};

static int __init sanitize_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!strcmp(cases[i].name, what)) {
			cases[i].make();
			return 0;
		}
	}
	return -EINVAL;
}

static void __exit sanitize_exit(void)
{
}

module_init(sanitize_init);
module_exit(sanitize_exit);
MODULE_DESCRIPTION("Mistakes that sanitizers find");
MODULE_LICENSE("GPL");
