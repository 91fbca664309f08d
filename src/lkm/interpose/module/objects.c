// SPDX-License-Identifier: GPL-2.0-only
/* What the module took and has not given back, and, of memory, what it has. */
#include <linux/err.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stringhash.h>
#include <linux/tracepoint.h>
#include <linux/version.h>
#include <trace/events/kmem.h>

#include "interpose.h"

#define BITS 10
#define AT_HAND 256
#define MOST_PAGES 2048
#define MOST_GROUPS 64

static struct hlist_head table[1 << BITS];
static struct lkm_object at_hand[AT_HAND];
static HLIST_HEAD(spare);
static unsigned int pages, untracked, locks;
static DEFINE_RAW_SPINLOCK(lock);

static struct hlist_head *head_of(u64 a)
{
	return &table[hash_64(a, BITS)];
}

#define each_object(object, next, i) \
	for ((i) = 0; (i) < ARRAY_SIZE(table); (i)++) \
		hlist_for_each_entry_safe(object, next, &table[i], link)

static void drop(struct lkm_object *object)
{
	if (!object->freed && object->rule->flags & RULE_LOCK)
		locks--;
	hlist_del(&object->link);
	hlist_add_head(&object->link, &spare);
}

void lkm_objects_reset(void)
{
	struct lkm_object *object;
	struct hlist_node *next;
	static bool once;
	unsigned int i;

	each_object(object, next, i)
		drop(object);
	for (i = 0; !once && i < AT_HAND; i++)
		hlist_add_head(&at_hand[i].link, &spare);
	once = true;
	untracked = locks = 0;
}

/* More room, taken outside the lock: the kernel's allocator tells us of every allocation. */
static void stock_up(void)
{
	unsigned long flags, page;
	struct lkm_object *more;
	size_t i;

	if (!hlist_empty(&spare) || pages >= MOST_PAGES)
		return;
	page = __get_free_page(GFP_ATOMIC | __GFP_NOWARN | __GFP_ZERO);
	if (!page)
		return;
	pages++;
	more = (struct lkm_object *)page;
	raw_spin_lock_irqsave(&lock, flags);
	for (i = 0; i < PAGE_SIZE / sizeof(*more); i++)
		hlist_add_head(&more[i].link, &spare);
	raw_spin_unlock_irqrestore(&lock, flags);
}

u64 lkm_key(u8 kind, const struct lkm_call *call)
{
	const unsigned long *arg = call->arg;

	switch (kind) {
	case KEY_RETURN:
		return call->result;
	case KEY_ARG0 ... KEY_ARG5:
		return arg[kind - KEY_ARG0];
	case KEY_AT_ARG0_32:
		return *(u32 *)arg[0];
	case KEY_AT_ARG0:
		return *(u64 *)arg[0];
	case KEY_AT_ARG3:
		return *(u64 *)arg[3];
	case KEY_AT_ARG4:
		return *(u64 *)arg[4];
	case KEY_RETURN_PAGE:
		return (unsigned long)virt_to_page((void *)call->result);
	case KEY_ARG0_PAGE:
		return arg[0] ? (unsigned long)virt_to_page((void *)arg[0]) : 0;
	case KEY_ARG0_32 ... KEY_ARG2_32:
		return (u32)arg[kind - KEY_ARG0_32];
	case KEY_RETURN_OR_ARG0:
		return (u32)arg[0] ? (u32)arg[0] : (u32)call->result;
	case KEY_RCU:	/* (head, the head's offset) until 6.3, then (head, object) */
		return arg[1] < PAGE_SIZE ? arg[0] - arg[1] : arg[1];
	case KEY_NAME0:
		return full_name_hash(NULL, (char *)arg[0], strlen((char *)arg[0]));
	case KEY_ONE:
		return 1;
	default:
		return 0;
	}
}

static bool family_in(u64 families, const struct lkm_object *object)
{
	return families & BIT_ULL(object->rule->family);
}

static struct lkm_object *live(u64 families, u64 a, u64 b)
{
	struct lkm_object *object;

	hlist_for_each_entry(object, head_of(a), link)
		if (!object->freed && object->a == a && (!b || object->b == b) &&
		    family_in(families, object))
			return object;
	return NULL;
}

/* device_destroy() names what device_create() took by its number alone. */
static struct lkm_object *live_by_second(u64 families, u64 b)
{
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned int i;

	each_object(object, next, i)
		if (!object->freed && object->b == b && family_in(families, object))
			return object;
	return NULL;
}

static struct lkm_object *freed(u64 families, u64 a)
{
	struct lkm_object *object;

	hlist_for_each_entry(object, head_of(a), link)
		if (object->freed && object->a == a && family_in(families, object))
			return object;
	return NULL;
}

static void forget_freed(u64 a)
{
	struct lkm_object *object;
	struct hlist_node *next;

	hlist_for_each_entry_safe(object, next, head_of(a), link)
		if (object->freed && object->a == a)
			drop(object);
}

void lkm_take(const struct lkm_rule *rule, const struct lkm_call *call, u16 site)
{
	u64 a = lkm_key(rule->key, call);
	struct lkm_object *object;
	unsigned long flags;

	stock_up();
	raw_spin_lock_irqsave(&lock, flags);
	forget_freed(a);
	if (rule->flags & RULE_ONCE && live(BIT_ULL(rule->family), a, 0))
		goto out;
	if (hlist_empty(&spare)) {
		untracked++;
		goto out;
	}
	object = hlist_entry(spare.first, struct lkm_object, link);
	hlist_del(&object->link);
	object->a = a;
	object->b = lkm_key(rule->key2, call);
	object->rule = rule;
	object->site = site;
	object->freer = NULL;
	object->freed = object->final = false;
	hlist_add_head(&object->link, head_of(a));
	if (rule->flags & RULE_LOCK)
		locks++;
out:
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void give_back(struct lkm_object *object, const struct lkm_rule *rule, u16 site)
{
	if (!(object->rule->flags & RULE_MEMORY)) {
		drop(object);
		return;
	}
	object->freed = true;
	object->freer = rule;
	object->freer_site = site;
}

static void complain(const char *what, const struct lkm_rule *rule, u16 site, u64 a,
		     const struct lkm_object *object)
{
	lkm_say("%s %u %s %llx", what, rule->number, lkm_site_name(site), a);
	if (object)
		lkm_say("taken %u %s", object->rule->number, lkm_site_name(object->site));
	if (object && object->freer)
		lkm_say("freed %u %s", object->freer->number, lkm_site_name(object->freer_site));
}

/* Memory goes with a lock in it that is held. */
static void look_for_locks(const struct lkm_rule *rule, u16 site, u64 a)
{
	size_t size = ksize((void *)(unsigned long)a);
	struct lkm_object *object, copy;
	struct hlist_node *next;
	unsigned long flags;
	bool found = false;
	unsigned int i;

	raw_spin_lock_irqsave(&lock, flags);
	each_object(object, next, i) {
		if (!object->freed && object->rule->flags & RULE_LOCK && object->a >= a &&
		    object->a < a + size) {
			copy = *object;
			found = true;
			drop(object);
		}
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	if (found)
		complain("locked", rule, site, a, &copy);
}

static bool is_pointer(u8 key)
{
	return key < KEY_ARG0_32;
}

/* A directory goes with all that is in it. */
static void give_all(const struct lkm_rule *rule)
{
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&lock, flags);
	each_object(object, next, i)
		if (!object->freed && family_in(rule->gives, object))
			drop(object);
	raw_spin_unlock_irqrestore(&lock, flags);
}

/* False where it is better not done: it would corrupt the kernel's memory, and all that comes after. */
bool lkm_give(const struct lkm_rule *rule, u64 a, u64 b, u16 site)
{
	struct lkm_object *object, copy;
	const char *wrong = NULL;
	unsigned long flags;
	bool ours = false;

	if (rule->give && is_pointer(rule->give) && a <= (unsigned long)ZERO_SIZE_PTR)
		return true;
	if (rule->flags & RULE_ALL) {
		give_all(rule);
		return true;
	}
	raw_spin_lock_irqsave(&lock, flags);
	object = rule->give ? live(rule->gives, a, b) : live_by_second(rule->gives, b);
	if (object) {
		ours = true;
		give_back(object, rule, site);
	} else if ((object = live(rule->partners, a, 0))) {
		wrong = "wrong";
	} else if (rule->flags & RULE_MEMORY && (object = freed(rule->gives, a))) {
		wrong = "double";
	} else if (rule->flags & RULE_MEMORY && (IS_ERR_VALUE((unsigned long)a) || lkm_within(a))) {
		wrong = "wild";
	}
	if (wrong && object) {
		copy = *object;
		if (!object->freed)
			drop(object);
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	if (wrong)
		complain(wrong, rule, site, a, object ? &copy : NULL);
	else if (ours && locks && rule->flags & RULE_MEMORY && virt_addr_valid(a))
		look_for_locks(rule, site, a);
	return !wrong;
}

/* The kernel frees something: what it does not own, the module has handed to it. */
static void kernel_frees(u64 a)
{
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned long flags;

	if (!lkm_target || hlist_empty(head_of(a)))
		return;
	raw_spin_lock_irqsave(&lock, flags);
	hlist_for_each_entry_safe(object, next, head_of(a), link)
		if (!object->freed && object->a == a && object->rule->flags & RULE_KERNEL_FREES)
			give_back(object, NULL, 0);
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void kernel_allocates(u64 a)
{
	unsigned long flags;

	if (!lkm_target || hlist_empty(head_of(a)))
		return;
	raw_spin_lock_irqsave(&lock, flags);
	forget_freed(a);
	raw_spin_unlock_irqrestore(&lock, flags);
}

/* All of these tracepoints begin with the caller and the object (include/trace/events/kmem.h, 5.10 to 7.3). */
static void on_free(void *data, unsigned long caller, const void *object)
{
	kernel_frees((unsigned long)object);
}

static void on_alloc(void *data, unsigned long caller, const void *object)
{
	kernel_allocates((unsigned long)object);
}

static void on_page_free(void *data, struct page *page, unsigned int order)
{
	kernel_frees((unsigned long)page);
}

static void find_page_free(struct tracepoint *tp, void *found)
{
	if (!strcmp(tp->name, "mm_page_free"))
		*(struct tracepoint **)found = tp;
}

#define watch(name, probe) tracepoint_probe_register(&__tracepoint_##name, (void *)(probe), NULL)

int lkm_watch_kernel(void)
{
	struct tracepoint *page_free = NULL;
	int err;

	err = watch(kfree, on_free) ?: watch(kmem_cache_free, on_free) ?: watch(kmalloc, on_alloc) ?:
	      watch(kmem_cache_alloc, on_alloc);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
	err = err ?: watch(kmalloc_node, on_alloc) ?: watch(kmem_cache_alloc_node, on_alloc);
#endif
	if (err)
		return err;
	for_each_kernel_tracepoint(find_page_free, &page_free);
	return page_free ? tracepoint_probe_register(page_free, (void *)on_page_free, NULL) : -ENOENT;
}

/* Objects that are still there; those that the kernel may yet free, in `late`. */
static unsigned int count(unsigned int *late)
{
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned int i, n = 0;
	unsigned long flags;

	*late = 0;
	raw_spin_lock_irqsave(&lock, flags);
	each_object(object, next, i) {
		if (object->freed || (!object->final && lkm_is_gone(object))) {
			drop(object);
			continue;
		}
		n++;
		object->final = lkm_fires(object);
		*late += !object->final;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	return n;
}

/* While init's text still has names: those of what init took. */
void lkm_name_leaks(void)
{
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned int i;

	each_object(object, next, i)
		if (!object->freed)
			lkm_site_name(object->site);
}

struct group {
	const struct lkm_rule *rule;
	u16 site;
	u64 a;
	unsigned int count;
};

static void show_groups(void)
{
	static struct group groups[MOST_GROUPS];
	struct lkm_object *object;
	struct hlist_node *next;
	unsigned int i, g, n = 0;

	each_object(object, next, i) {
		for (g = 0; g < n; g++)
			if (groups[g].rule == object->rule && groups[g].site == object->site)
				break;
		if (g == MOST_GROUPS)
			continue;
		if (g == n)
			groups[n++] = (struct group){ object->rule, object->site, object->a, 0 };
		groups[g].count++;
	}
	for (g = 0; g < n; g++)
		lkm_say("leak %u %s %llx %u", groups[g].rule->number, lkm_site_name(groups[g].site),
			groups[g].a, groups[g].count);
}

/* What is left at the end. Where the kernel frees late (RCU, work), it is given the time. */
void lkm_leaks_report(void)
{
	unsigned int late, tries;

	if (!count(&late) && !untracked)
		return;
	for (tries = 0; late && tries < 3; tries++) {
		rcu_barrier();
		msleep(20);
		count(&late);
	}
	show_groups();
	if (untracked)
		lkm_say("untracked %u", untracked);
}
