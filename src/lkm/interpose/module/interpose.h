/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of lkm_interpose share. The rules are written by lkm/interpose/rules.py: keep both equal. */
#ifndef LKM_INTERPOSE_H
#define LKM_INTERPOSE_H

#include <linux/module.h>
#include <linux/types.h>

/* Where a key comes from: the return value, an argument, what an argument points to. */
enum lkm_key {
	KEY_NONE,
	KEY_RETURN,
	KEY_ARG0,
	KEY_ARG1,
	KEY_ARG2,
	KEY_ARG3,
	KEY_ARG4,
	KEY_ARG5,
	KEY_AT_ARG0_32,		/* *(u32 *)arg0, as alloc_chrdev_region() has it */
	KEY_AT_ARG0,		/* *(u64 *)argN */
	KEY_AT_ARG3,
	KEY_AT_ARG4,
	KEY_RETURN_PAGE,	/* the page of an address that is returned */
	KEY_ARG0_PAGE,
	KEY_ARG0_32,		/* the lower half of an argument: dev_t, irq, int */
	KEY_ARG1_32,
	KEY_ARG2_32,
	KEY_RETURN_OR_ARG0,	/* __register_chrdev(): the major that was given, or asked for */
	KEY_RCU,		/* kvfree_call_rcu() */
	KEY_ONE,		/* there is only one: rtnl_lock() */
	KEY_NAME0,		/* a hash of the string arg0 */
};

enum lkm_success {
	OK_NEVER,
	OK_POINTER,		/* neither NULL nor an ERR_PTR */
	OK_ZERO,		/* int 0 */
	OK_NOT_NEGATIVE,	/* int >= 0 */
	OK_TRUE,		/* not 0, of a bool or an int */
	OK_ALWAYS,
};

enum lkm_fail {
	FAIL_NOT,
	FAIL_VALUE,		/* return `failure` */
	FAIL_COPY,		/* return arg2, the bytes that were not copied */
	FAIL_COPY_ZEROED,	/* the same, and arg0 is cleared as _copy_from_user() does */
	FAIL_CLEAR,		/* return arg1 */
	FAIL_KOBJECT,		/* return `failure`, arg0 being a kobject that was initialized with the type arg1 */
	FAIL_DEVICE,		/* the same of a device */
	FAIL_PLATFORM,		/* and of a platform device's device */
	FAIL_NULL_AT0,		/* return `failure`, with NULL where arg0 points to */
	FAIL_NULL_AT5,
};

/* How to see at the end that an object is not there any more, whoever took it away. */
enum lkm_check {
	CHECK_NONE,
	CHECK_VMALLOC,
	CHECK_TIMER,
	CHECK_HRTIMER,
	CHECK_WORK,
	CHECK_DELAYED_WORK,
	CHECK_NETDEV,
	CHECK_DEVICE,
	CHECK_MUTEX,		/* in the module's own memory, and locked */
	CHECK_LOCK,		/* in the module's own memory */
};

#define RULE_KERNEL_FREES	1	/* the kernel may free it: watch its own frees */
#define RULE_MOVES		2	/* krealloc(): arg0 is given back where it succeeds */
#define RULE_STACK		4	/* has arguments on the stack */
#define RULE_LOCK		8
#define RULE_ONCE		16	/* taking it again does not make two of it: mod_timer() */
#define RULE_MEMORY		32	/* a give that frees slab memory */
#define RULE_BULK		64	/* kmem_cache_free_bulk(): arg1 pointers at arg2 */
#define RULE_ALL		128	/* a give that may give back all of the family */
#define LKM_GFP_SHIFT		16	/* above: bit N says that argument N may be GFP flags */

struct lkm_rule {
	u8 fail;
	u8 success;
	u8 family;
	u8 check;
	u8 key, key2;		/* of what is taken */
	u8 give, give2;		/* of what is given back */
	u32 flags;
	u32 number;
	u32 fail_at;		/* which fallible call to fail, counted from 1; 0 for none */
	u32 record;		/* say at the end which fallible calls there were */
	s64 failure;
	u64 gives;		/* bit F: it gives back family F */
	u64 partners;		/* families that it would be wrong to give to it; what is in neither is not looked at */
} __packed;

/* What gate.S pushes, from the lowest address. */
struct lkm_call {
	const struct lkm_rule *rule;
	unsigned long real;
	unsigned long arg[6];
	unsigned long result;
	unsigned long frame;
	unsigned long caller;
};

enum lkm_action { DO_JUMP, DO_ANSWER, DO_CALL, DO_CALL_STACK };

enum lkm_phase { PHASE_INIT, PHASE_LIVE, PHASE_EXIT, PHASES };

struct lkm_object {
	struct hlist_node link;
	u64 a, b;
	const struct lkm_rule *rule;	/* which took it */
	const struct lkm_rule *freer;	/* which gave it back; NULL: nobody, or the kernel itself */
	u16 site, freer_site;
	bool freed, final;
};

/* notify.c */
extern struct module *lkm_target;
enum lkm_phase lkm_phase(void);
bool lkm_within(unsigned long address);

/* calls.c */
void lkm_calls_reset(void);
void lkm_calls_report(void);

/* objects.c */
void lkm_objects_reset(void);
void lkm_take(const struct lkm_rule *rule, const struct lkm_call *call, u16 site);
bool lkm_give(const struct lkm_rule *rule, u64 a, u64 b, u16 site);
void lkm_leaks_report(void);
void lkm_name_leaks(void);
int lkm_watch_kernel(void);
u64 lkm_key(u8 kind, const struct lkm_call *call);

/* checks.c */
bool lkm_is_gone(const struct lkm_object *object);
bool lkm_fires(const struct lkm_object *object);

/* sites.c */
void lkm_sites_reset(void);
u16 lkm_site(unsigned long address);
const char *lkm_site_name(u16 site);
void lkm_sites_say(void);

#define lkm_say(fmt, ...) printk(KERN_DEBUG "lkm_interpose: " fmt "\n", ##__VA_ARGS__)

#endif
