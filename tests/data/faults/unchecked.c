// SPDX-License-Identifier: GPL-2.0-only
/* A workqueue that was not made gets work. */
#include <linux/module.h>
#include <linux/workqueue.h>

static struct workqueue_struct *queue;

static void act(struct work_struct *work)
{
}
static DECLARE_WORK(work, act);

static int __init unchecked_init(void)
{
	queue = alloc_workqueue("unchecked", WQ_UNBOUND, 1);
#ifdef FIXED
	if (!queue)
		return -ENOMEM;
#endif
	queue_work(queue, &work);
	return 0;
}

static void __exit unchecked_exit(void)
{
	destroy_workqueue(queue);
}

module_init(unchecked_init);
module_exit(unchecked_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
