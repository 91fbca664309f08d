// SPDX-License-Identifier: GPL-2.0-only
/*
 * params - every type of module parameter that the kernel has
 *
 * The types are those of include/linux/moduleparam.h; `hexint` came with v5.8.
 * A permission other than 0 makes a file of that mode in
 * /sys/module/params/parameters. One that the world could write to does not
 * compile.
 *
 * A write to such a file comes at any time. A module that then reads a charp
 * takes kernel_param_lock(THIS_MODULE), for the old string has been freed.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/types.h>

/* Plain, 0644: root can write, everybody can read. One of each type. */

static unsigned char p_byte = 1;
module_param(p_byte, byte, 0644);
MODULE_PARM_DESC(p_byte, "unsigned char, 0 to 255");

static short p_short = -2;
module_param(p_short, short, 0644);
MODULE_PARM_DESC(p_short, "signed, 16 bits");

static unsigned short p_ushort = 2;
module_param(p_ushort, ushort, 0644);
MODULE_PARM_DESC(p_ushort, "unsigned, 16 bits");

static int p_int = -3;
module_param(p_int, int, 0644);
MODULE_PARM_DESC(p_int, "signed, 32 bits");

static unsigned int p_uint = 3;
module_param(p_uint, uint, 0644);
MODULE_PARM_DESC(p_uint, "unsigned, 32 bits");

static long p_long = -4;
module_param(p_long, long, 0644);
MODULE_PARM_DESC(p_long, "signed, as wide as a pointer");

static unsigned long p_ulong = 4;
module_param(p_ulong, ulong, 0644);
MODULE_PARM_DESC(p_ulong, "unsigned, as wide as a pointer");

static unsigned long long p_ullong = 5;
module_param(p_ullong, ullong, 0644);
MODULE_PARM_DESC(p_ullong, "unsigned, 64 bits");

static unsigned int p_hexint = 0x6;
module_param(p_hexint, hexint, 0644);
MODULE_PARM_DESC(p_hexint, "unsigned, 32 bits, reads back in hexadecimal");

static char *p_charp = "seven";
module_param(p_charp, charp, 0644);
MODULE_PARM_DESC(p_charp, "string of at most 1024 bytes");

static bool p_bool;
module_param(p_bool, bool, 0644);
MODULE_PARM_DESC(p_bool, "y or n; the name alone means y");

static bool p_invbool;
module_param(p_invbool, invbool, 0644);
MODULE_PARM_DESC(p_invbool, "the opposite of what is given is stored");

/* Plain, the other permissions. */

static int p_hidden = 8;
module_param(p_hidden, int, 0);
MODULE_PARM_DESC(p_hidden, "not in sysfs");

static int p_readonly = 9;
module_param(p_readonly, int, 0444);
MODULE_PARM_DESC(p_readonly, "everybody can read");

static int p_rootonly = 10;
module_param(p_rootonly, int, 0600);
MODULE_PARM_DESC(p_rootonly, "root alone can read and write");

/* Named: the parameter is called otherwise than the variable. */

static int named_hidden = 11;
module_param_named(n_hidden, named_hidden, int, 0);
MODULE_PARM_DESC(n_hidden, "named, not in sysfs");

static int named_readonly = 12;
module_param_named(n_readonly, named_readonly, int, 0444);
MODULE_PARM_DESC(n_readonly, "named, everybody can read");

static int named_writable = 13;
module_param_named(n_writable, named_writable, int, 0644);
MODULE_PARM_DESC(n_writable, "named, root can write");

static int named_rootonly = 14;
module_param_named(n_rootonly, named_rootonly, int, 0600);
MODULE_PARM_DESC(n_rootonly, "named, root alone");

/* String: copied into a buffer of ours, with the final NUL. */

static char string_hidden[16] = "hidden";
module_param_string(s_hidden, string_hidden, sizeof(string_hidden), 0);
MODULE_PARM_DESC(s_hidden, "string of at most 15 bytes, not in sysfs");

static char string_readonly[16] = "readonly";
module_param_string(s_readonly, string_readonly, sizeof(string_readonly), 0444);
MODULE_PARM_DESC(s_readonly, "string of at most 15 bytes, everybody can read");

static char string_writable[16] = "writable";
module_param_string(s_writable, string_writable, sizeof(string_writable), 0644);
MODULE_PARM_DESC(s_writable, "string of at most 15 bytes, root can write");

static char string_rootonly[16] = "rootonly";
module_param_string(s_rootonly, string_rootonly, sizeof(string_rootonly), 0600);
MODULE_PARM_DESC(s_rootonly, "string of at most 15 bytes, root alone");

/* Array: at most as many values as it has elements; how many were given is kept. */

static int array_hidden[4];
static unsigned int array_hidden_count;
module_param_array_named(a_hidden, array_hidden, int, &array_hidden_count, 0);
MODULE_PARM_DESC(a_hidden, "up to 4 integers, not in sysfs");

static unsigned int a_readonly[4] = { 1, 2, 3, 4 };
module_param_array(a_readonly, uint, NULL, 0444);
MODULE_PARM_DESC(a_readonly, "up to 4 unsigned integers, everybody can read");

static int a_writable[4] = { 5, 6 };
static unsigned int a_writable_count = 2;
module_param_array(a_writable, int, &a_writable_count, 0644);
MODULE_PARM_DESC(a_writable, "up to 4 integers, root can write");

static char *a_strings[3] = { "a", "b" };
static unsigned int a_strings_count = 2;
module_param_array(a_strings, charp, &a_strings_count, 0644);
MODULE_PARM_DESC(a_strings, "up to 3 strings, root can write");

static bool a_rootonly[2];
module_param_array(a_rootonly, bool, NULL, 0600);
MODULE_PARM_DESC(a_rootonly, "up to 2 switches, root alone");

static int __init params_init(void)
{
	pr_info("init\n");
	return 0;
}

static void __exit params_exit(void)
{
	pr_info("exit\n");
}

module_init(params_init);
module_exit(params_exit);

MODULE_DESCRIPTION("a parameter of every type, form and permission");
MODULE_LICENSE("GPL");
