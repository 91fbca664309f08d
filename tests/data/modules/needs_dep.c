// SPDX-License-Identifier: GPL-2.0-only
/* needs a symbol of an in-tree module, crc-itu-t */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/crc-itu-t.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init needs_dep_init(void)
{
	static const u8 text[] = "123456789";

	pr_info("crc %04x\n", crc_itu_t(0, text, sizeof(text) - 1));
	return 0;
}

static void __exit needs_dep_exit(void)
{
}

module_init(needs_dep_init);
module_exit(needs_dep_exit);

MODULE_DESCRIPTION("needs a symbol of an in-tree module, crc-itu-t");
MODULE_LICENSE("GPL");
