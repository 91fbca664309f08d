// SPDX-License-Identifier: GPL-2.0-only
/*
 * crash - goes wrong in the way that the parameter `what` names
 *
 * The reports in tests/data/logs were made with it. Every way has a function
 * of its own, so that a report can be checked for the name.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "which way to go wrong");

/* volatile: the compiler must not see what we are up to. */
static volatile unsigned long address;
static volatile int zero;
static volatile int index = 8;
static volatile int forever = 1;

static noinline int read_null(void)
{
	return *(volatile int *)address;
}

static noinline int write_bad(void)
{
	address = 0xffffffff12345678UL;
	*(volatile int *)address = 1;
	return 0;
}

static noinline int call_null(void)
{
	int (*function)(void) = (void *)address;

	return function() + 1;
}

static noinline int not_canonical(void)
{
	address = 0xdead000000000100UL;
	return *(volatile int *)address;
}

static noinline int divide(void)
{
	return 100 / zero;
}

static noinline int bad_opcode(void)
{
	asm volatile(".byte 0x0f, 0x04" : : : "memory");
	return 0;
}

static noinline int stack_segment(void)
{
	asm volatile("push %%rbp\n\t"
		     "mov %0, %%rbp\n\t"
		     "mov (%%rbp), %%rax\n\t"
		     "pop %%rbp"
		     : : "r" (0xdead000000000100UL) : "rax", "memory");
	return 0;
}

static noinline int recurse(int depth)
{
	volatile char room[512];

	if (!forever)
		return depth;
	room[0] = depth;
	return recurse(depth + 1) + room[0];
}

static noinline int overflow_stack(void)
{
	return recurse(0);
}

static noinline int bug_here(void)
{
	BUG_ON(forever);
	return 0;
}

static noinline int warn_here(void)
{
	WARN_ON(forever);
	return 0;
}

static noinline int warn_with_words(void)
{
	WARN(forever, "the answer is %d, not %d\n", 42, 41);
	return 0;
}

static noinline int warn_twice(void)
{
	int i;

	for (i = 0; i < 2; i++)
		WARN_ON(forever);
	return 0;
}

static noinline int panic_here(void)
{
	panic("crash: asked for");
}

static noinline int corrupt_list(void)
{
	static LIST_HEAD(head);
	static struct list_head one, two;

	list_add(&one, &head);
	one.next = &two;
	list_del(&one);
	return 0;
}

static noinline int saturate(void)
{
	static refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
	return 0;
}

static noinline int sleep_under_spinlock(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	msleep(20);
	spin_unlock(&lock);
	return 0;
}

static noinline int leave_preempt_off(void)
{
	preempt_disable();
	return 0;
}

static noinline int leave_irqs_off(void)
{
	local_irq_disable();
	return 0;
}

static noinline int spin(void)
{
	while (forever)
		cpu_relax();
	return 0;
}

static noinline int spin_without_irqs(void)
{
	local_irq_disable();
	return spin();
}

static noinline int wait_for_ever(void)
{
	static DEFINE_MUTEX(lock);

	mutex_lock(&lock);
	mutex_lock(&lock);
	return 0;
}

static noinline int name_twice(void)
{
	struct kobject *one = kobject_create_and_add("crash_name", NULL);
	struct kobject *two = kobject_create_and_add("crash_name", NULL);

	kobject_put(two);
	kobject_put(one);
	return 0;
}

static noinline int index_out_of_bounds(void)
{
	static int table[8];

	table[index & 15]++;
	return table[1];
}

static noinline int use_after_free(void)
{
	char *room = NULL;
	int i;

	/* KFENCE samples: one of these allocations is in its pool. */
	for (i = 0; i < 10000; i++) {
		room = kmalloc(64, GFP_KERNEL);
		kfree(room);
		OPTIMIZER_HIDE_VAR(room);
		*(volatile char *)room;
		if (!(i % 500))
			msleep(1);
	}
	return 0;
}

static noinline int write_past_end(void)
{
	char *room = kmalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(room);
	room[64] = 'x';
	kfree(room);
	return 0;
}

static noinline int free_twice(void)
{
	char *room = kmalloc(64, GFP_KERNEL);

	kfree(room);
	OPTIMIZER_HIDE_VAR(room);
	kfree(room);
	return 0;
}

static noinline int odd_return(void)
{
	return 7;
}

static noinline int only_words(void)
{
	pr_info("this is no BUG: only a line that says so\n");
	pr_warn("WARNING: the cable is not plugged in\n");
	pr_err("Oops: we did it again\n");
	pr_info("panic is not called for\n");
	return 0;
}

static noinline int underflow(void)
{
	static refcount_t count = REFCOUNT_INIT(1);

	refcount_dec(&count);
	if (refcount_dec_and_test(&count))
		return 1;
	return 0;
}

static noinline int add_twice(void)
{
	static LIST_HEAD(head);
	static struct list_head one;

	list_add(&one, &head);
	list_add(&one, &head);
	return 0;
}

static noinline int expose(void)
{
	char *room = kmalloc(64, GFP_KERNEL);
	volatile size_t length = 128;

	if (copy_to_user((void __user *)4096, room, length))
		pr_info("nobody there\n");
	kfree(room);
	return 0;
}

static noinline int free_page_twice(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL);

	free_page(page);
	free_page(page);
	return 0;
}

static noinline int leave_cache(void)
{
	struct kmem_cache *cache = kmem_cache_create("crash_cache", 72, 0, 0, NULL);

	if (kmem_cache_alloc(cache, GFP_KERNEL))
		kmem_cache_destroy(cache);
	return 0;
}

static noinline void keep_preempt_off(struct timer_list *unused)
{
	preempt_disable();
}

static noinline int leak_in_timer(void)
{
	static DEFINE_TIMER(timer, keep_preempt_off);

	mod_timer(&timer, jiffies + 1);
	msleep(50);
	return 0;
}

static noinline void keep_counting(struct work_struct *unused)
{
	preempt_disable();
}

static noinline int leak_in_work(void)
{
	static DECLARE_WORK(work, keep_counting);

	schedule_work(&work);
	msleep(50);
	return 0;
}

static const struct way {
	const char *name;
	int (*go)(void);
} ways[] = {
	{ "read_null", read_null },
	{ "write_bad", write_bad },
	{ "call_null", call_null },
	{ "not_canonical", not_canonical },
	{ "divide", divide },
	{ "bad_opcode", bad_opcode },
	{ "stack_segment", stack_segment },
	{ "overflow_stack", overflow_stack },
	{ "bug_here", bug_here },
	{ "warn_here", warn_here },
	{ "warn_with_words", warn_with_words },
	{ "warn_twice", warn_twice },
	{ "panic_here", panic_here },
	{ "corrupt_list", corrupt_list },
	{ "saturate", saturate },
	{ "sleep_under_spinlock", sleep_under_spinlock },
	{ "leave_preempt_off", leave_preempt_off },
	{ "leave_irqs_off", leave_irqs_off },
	{ "spin", spin },
	{ "spin_without_irqs", spin_without_irqs },
	{ "wait_for_ever", wait_for_ever },
	{ "name_twice", name_twice },
	{ "index_out_of_bounds", index_out_of_bounds },
	{ "use_after_free", use_after_free },
	{ "write_past_end", write_past_end },
	{ "free_twice", free_twice },
	{ "odd_return", odd_return },
	{ "only_words", only_words },
	{ "underflow", underflow },
	{ "add_twice", add_twice },
	{ "expose", expose },
	{ "free_page_twice", free_page_twice },
	{ "leave_cache", leave_cache },
	{ "leak_in_timer", leak_in_timer },
	{ "leak_in_work", leak_in_work },
};

static int __init crash_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(what, ways[i].name))
			return ways[i].go();

	pr_err("no way called %s\n", what);
	return -EINVAL;
}

static void __exit crash_exit(void)
{
}

module_init(crash_init);
module_exit(crash_exit);

MODULE_DESCRIPTION("goes wrong in the way that a parameter names");
MODULE_LICENSE("GPL");
