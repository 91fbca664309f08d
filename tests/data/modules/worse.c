// SPDX-License-Identifier: GPL-2.0-only
/*
 * worse - goes wrong in the way that the parameter `what` names, as crash does:
 * ways that ask more of the kernel or of who captures the report
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "which way to go wrong");

/* volatile: the compiler must not see what we are up to. */
static volatile unsigned long nowhere = 0xffffc8ffffff0000UL;
static void *volatile last;

static noinline int lose_stack(void)
{
	unsigned long top = nowhere;

	/* Not even the page fault finds a stack to be told on. */
	asm volatile("xchg %0, %%rsp\n\t"
		     "push %%rax"
		     : "+r" (top) : : "memory");
	return 0;
}

static void told(struct rcu_head *unused)
{
}

static noinline int hold_rcu(void)
{
	static struct rcu_head head;
	int i;

	call_rcu(&head, told);
	rcu_read_lock();
	for (i = 0; i < 7000; i++)
		udelay(1000);
	rcu_read_unlock();
	rcu_barrier();
	return 0;
}

static noinline int free_locked_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		return -ENOMEM;
	set_bit(PG_locked, (unsigned long *)&page->flags);
	__free_page(page);
	return 0;
}

static noinline int forget_memory(void)
{
	int i;

	for (i = 0; i < 16; i++)
		last = kmalloc(100, GFP_KERNEL);
	last = NULL;
	return 0;
}

static const struct way {
	const char *name;
	int (*go)(void);
} ways[] = {
	{ "lose_stack", lose_stack },
	{ "hold_rcu", hold_rcu },
	{ "free_locked_page", free_locked_page },
	{ "forget_memory", forget_memory },
};

static int __init worse_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(what, ways[i].name))
			return ways[i].go();

	pr_err("no way called %s\n", what);
	return -EINVAL;
}

static void __exit worse_exit(void)
{
}

module_init(worse_init);
module_exit(worse_exit);

MODULE_DESCRIPTION("goes wrong in the way that a parameter names");
MODULE_LICENSE("GPL");
