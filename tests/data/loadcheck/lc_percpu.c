// SPDX-License-Identifier: GPL-2.0-only
/* More per-CPU data than all modules together can have. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/percpu.h>

static DEFINE_PER_CPU(char[16384], lc_percpu_data);

static int __init lc_percpu_init(void)
{
	(*per_cpu_ptr(&lc_percpu_data, 0))[0] = 1;
	return 0;
}

static void __exit lc_percpu_exit(void)
{
}

module_init(lc_percpu_init);
module_exit(lc_percpu_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Too much per-CPU data");
