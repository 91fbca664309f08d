// SPDX-License-Identifier: GPL-2.0-only
/* Nothing but what every module has: calls, data that points to functions, a parameter. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

static int level = 1;
module_param(level, int, 0444);

static void work_fn(struct work_struct *work)
{
	pr_info("lc_plain: %d\n", level);
}
static DECLARE_WORK(work, work_fn);

static void *kept;

static int __init lc_plain_init(void)
{
	kept = kmalloc(64 + level, GFP_KERNEL);
	if (!kept)
		return -ENOMEM;
	schedule_work(&work);
	cancel_work_sync(&work);
	kfree(kept);
	return 0;
}

static void __exit lc_plain_exit(void)
{
}

module_init(lc_plain_init);
module_exit(lc_plain_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("To be damaged");
