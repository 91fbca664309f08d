// SPDX-License-Identifier: GPL-2.0-only
/* twice - the other one */

#include <linux/printk.h>

#include "twice.h"

static noinline int helper(void)
{
	pr_info("twice: helping %d\n", *(volatile int *)&helped);
	pr_info("twice: helped %d\n", *(volatile int *)&helped);
	return 0;
}

int other(void)
{
	return helper();
}
