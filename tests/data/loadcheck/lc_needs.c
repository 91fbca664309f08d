// SPDX-License-Identifier: GPL-2.0-only
/* Needs a module of the kernel's own. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/crc-itu-t.h>

static u16 sum;

static int __init lc_needs_init(void)
{
	sum = crc_itu_t(0, (const u8 *)"lkm", 3);
	return 0;
}

static void __exit lc_needs_exit(void)
{
}

module_init(lc_needs_init);
module_exit(lc_needs_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Needs crc-itu-t");
