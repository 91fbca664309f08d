// SPDX-License-Identifier: GPL-2.0-only
/* One of everything that lkm reads in a kernel object; it does nothing when loaded. */
#include <linux/version.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/init.h>

static unsigned char a_byte = 7;
static short a_short = -3;
static unsigned short a_ushort = 65535;
static int an_int = -42;
static unsigned int a_uint = 4000000000U;
static long a_long = -1;
static unsigned long a_ulong = 1UL << 40;
static unsigned long long a_ullong = ~0ULL;
static unsigned int a_hexint = 0xbeef;
static char *a_charp = "set";
static char *a_null_charp;
static bool a_bool = true;
static bool an_invbool = true;
static int a_bint = 1;
static int an_int_unsafe;

module_param(a_byte, byte, 0444);
module_param(a_short, short, 0644);
module_param(a_ushort, ushort, 0600);
module_param(an_int, int, 0);
MODULE_PARM_DESC(an_int, "A number: the answer, negated");
module_param(a_uint, uint, 0444);
module_param(a_long, long, 0444);
module_param(a_ulong, ulong, 0444);
module_param(a_ullong, ullong, 0444);
module_param(a_hexint, hexint, 0444);
module_param(a_charp, charp, 0444);
module_param(a_null_charp, charp, 0444);
module_param(a_bool, bool, 0644);
module_param(an_invbool, invbool, 0444);
module_param(a_bint, bint, 0444);
module_param_unsafe(an_int_unsafe, int, 0444);

static char text[16] = "in place";
module_param_string(a_string, text, sizeof(text), 0644);
MODULE_PARM_DESC(a_string, "Up to 15 bytes");

static int numbers[4] = { 1, 2, 3, 4 };
module_param_array(numbers, int, NULL, 0444);
static unsigned int words_given = 1;
static char *words[3] = { "one", "two", "three" };
module_param_array(words, charp, &words_given, 0444);
static bool switches[2];
static unsigned int switches_given;
module_param_array(switches, bool, &switches_given, 0);

static int even_set(const char *value, const struct kernel_param *kp)
{
	int error = param_set_int(value, kp);

	return error ? error : *(int *)kp->arg & 1 ? -EINVAL : 0;
}

static int even;
static const struct kernel_param_ops even_ops = {
	.set = even_set,
	.get = param_get_int,
};
module_param_cb(even, &even_ops, &even, 0644);
__MODULE_PARM_TYPE(even, "int");

static int poke(const char *value, const struct kernel_param *kp)
{
	return 0;
}

static const struct kernel_param_ops poke_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = poke,
};
module_param_cb(poke, &poke_ops, NULL, 0200);

int everything_plain(void);
int everything_gpl(void);
int everything_spaced(void);

int everything_plain(void)
{
	return 1;
}
EXPORT_SYMBOL(everything_plain);

int everything_gpl(void)
{
	return 2;
}
EXPORT_SYMBOL_GPL(everything_gpl);

int everything_spaced(void)
{
	return 3;
}
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
EXPORT_SYMBOL_NS_GPL(everything_spaced, EVERYTHING);
#else
EXPORT_SYMBOL_NS_GPL(everything_spaced, "EVERYTHING");
#endif

extern int everything_maybe(void) __weak;

static int __init everything_init(void)
{
	if (everything_maybe)
		pr_info("someone is there\n");
	return 0;
}

static void __exit everything_exit(void)
{
}

module_init(everything_init);
module_exit(everything_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("One of everything");
MODULE_AUTHOR("The first author");
MODULE_AUTHOR("The second author");
MODULE_VERSION("1.2");
MODULE_ALIAS("everything-else");
MODULE_FIRMWARE("everything.bin");
MODULE_SOFTDEP("pre: crc16 post: crc8");
