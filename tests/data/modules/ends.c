// SPDX-License-Identifier: GPL-2.0-only
/* ends - ends the whole machine, in the way that `what` names */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/reboot.h>
#include <linux/string.h>
#include <asm/desc.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "which way");

static void end_by_triple_fault(void)
{
	static const struct desc_ptr none;

	local_irq_disable();
	asm volatile("lidt %0\n\tint3" : : "m" (none));
}

static void end_by_restart(void)
{
	emergency_restart();
}

static void end_by_cf9(void)
{
	outb(6, 0xcf9);
}

static void end_by_keyboard(void)
{
	outb(0xfe, 0x64);
}

static void end_by_power(void)
{
	/* PM1a_CNT of QEMU's q35, with SLP_EN and the type of S5 */
	outw(0x2000, 0x604);
}

static void end_by_halt(void)
{
	local_irq_disable();
	for (;;)
		asm volatile("hlt");
}

static const struct {
	const char *name;
	void (*end)(void);
} ways[] = {
	{ "triple_fault", end_by_triple_fault },
	{ "restart", end_by_restart },
	{ "cf9", end_by_cf9 },
	{ "keyboard", end_by_keyboard },
	{ "power", end_by_power },
	{ "halt", end_by_halt },
};

static int __init ends_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(what, ways[i].name)) {
			pr_info("ending by %s\n", what);
			ways[i].end();
		}
	return 0;
}

static void __exit ends_exit(void)
{
}

module_init(ends_init);
module_exit(ends_exit);

MODULE_DESCRIPTION("ends the whole machine");
MODULE_LICENSE("GPL");
