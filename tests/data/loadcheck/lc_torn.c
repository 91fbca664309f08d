// SPDX-License-Identifier: GPL-2.0-only
/* Uses a proprietary symbol, and a GPL-only one. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/sched.h>

int lc_closed_answer(void);

static int __init lc_torn_init(void)
{
	if (lc_closed_answer() != 42)
		return -EINVAL;
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	return 0;
}

static void __exit lc_torn_exit(void)
{
}

module_init(lc_torn_init);
module_exit(lc_torn_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Torn between two licences");
