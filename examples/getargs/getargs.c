// SPDX-License-Identifier: GPL-2.0-only
/*
 * getargs - prints the parameters that it was loaded with
 *
 * All of them have permission 0: they are read when the module is loaded and
 * do not show up in /sys/module/getargs/parameters.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>

static int intparam;
module_param(intparam, int, 0);
MODULE_PARM_DESC(intparam, "an integer");

static char *file;
module_param(file, charp, 0);
MODULE_PARM_DESC(file, "a string; the module core keeps it, we get a pointer");

/* The parameter has a name of its own: insmod getargs.ko arg=456 */
static int intparam2;
module_param_named(arg, intparam2, int, 0);
MODULE_PARM_DESC(arg, "an integer whose variable has another name");

/* A string that is copied into a buffer of ours: insmod getargs.ko filepath=/b */
static char file2[128];
module_param_string(filepath, file2, sizeof(file2), 0);
MODULE_PARM_DESC(filepath, "a string of at most 127 bytes");

static int array[8];
static unsigned int array_count;
module_param_array(array, int, &array_count, 0);
MODULE_PARM_DESC(array, "up to 8 integers, separated by commas");

static int __init getargs_init(void)
{
	unsigned int i;

	pr_info("init\n");
	pr_info("=> intparam\t= %d\n", intparam);
	pr_info("=> intparam2\t= %d\n", intparam2);
	if (file)
		pr_info("=> file\t= %s\n", file);
	pr_info("=> file2\t= %s\n", file2);

	pr_info("=> array\t= [ ");
	for (i = 0; i < ARRAY_SIZE(array); i++)
		pr_cont("%d%s", array[i], i + 1 < ARRAY_SIZE(array) ? " " : "]\n");

	return 0;
}

static void __exit getargs_exit(void)
{
}

module_init(getargs_init);
module_exit(getargs_exit);

MODULE_DESCRIPTION("parameters of every form, printed");
MODULE_LICENSE("GPL");
