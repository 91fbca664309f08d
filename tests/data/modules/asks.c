// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>
#include <linux/nls.h>

static char *charset = "koi8-r";
module_param(charset, charp, 0);
MODULE_PARM_DESC(charset, "What the kernel is asked for");

static bool careless;
module_param(careless, bool, 0);
MODULE_PARM_DESC(careless, "Do not look whether there is one");

static struct nls_table *table;

static int __init asks_init(void)
{
	table = load_nls(charset);
	if (!table && !careless)
		return -ENOENT;
	pr_info("asks: %s\n", table->charset);
	return 0;
}

static void __exit asks_exit(void)
{
	unload_nls(table);
}

module_init(asks_init);
module_exit(asks_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Has the kernel load another module, request_module()");
