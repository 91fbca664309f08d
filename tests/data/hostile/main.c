// SPDX-License-Identifier: GPL-2.0-only
/* hostile - does its worst to the machine, in the way that the parameter `attack` names */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/string.h>

#include "hostile.h"

static char *attack = "";
module_param(attack, charp, 0);
MODULE_PARM_DESC(attack, "what to do");

static const struct attack * const lists[] = {
	processor_attacks, memory_attacks, task_attacks, device_attacks, agent_attacks,
};

static int __init hostile_init(void)
{
	const struct attack *each;
	int i;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		for (each = lists[i]; each->name; each++)
			if (!strcmp(each->name, attack)) {
				pr_info("attack: %s\n", attack);
				return each->run();
			}
	pr_err("there is no attack '%s'\n", attack);
	return -EINVAL;
}

static void __exit hostile_exit(void)
{
	pr_info("exit\n");
}

module_init(hostile_init);
module_exit(hostile_exit);

MODULE_DESCRIPTION("does its worst to the machine that it is loaded on");
MODULE_LICENSE("GPL");
