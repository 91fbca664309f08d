// SPDX-License-Identifier: GPL-2.0-only
/* What happens at a call: is it the one to fail, what does it take, what does it give back. */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/hardirq.h>
#include <linux/kobject.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "interpose.h"

#define MOST_RECORDED 16384

static atomic_t calls = ATOMIC_INIT(0);
static struct {
	u16 rule, site;
	u8 phase;
} recorded[MOST_RECORDED];
static unsigned int said;
static bool recording;

asmlinkage int lkm_enter(struct lkm_call *call);
asmlinkage void lkm_leave(struct lkm_call *call);

void lkm_calls_reset(void)
{
	atomic_set(&calls, 0);
	said = 0;
	recording = false;
}

/* What a function leaves behind when it fails is the caller's to deal with, as kobject_put() does. */
static unsigned long failure(const struct lkm_call *call)
{
	switch (call->rule->fail) {
	case FAIL_KOBJECT:
		kobject_init((void *)call->arg[0], (void *)call->arg[1]);
		return call->rule->failure;
	case FAIL_DEVICE:
		device_initialize((void *)call->arg[0]);
		return call->rule->failure;
	case FAIL_PLATFORM:
		device_initialize(&((struct platform_device *)call->arg[0])->dev);
		return call->rule->failure;
	case FAIL_NULL_AT0:
		*(void **)call->arg[0] = NULL;
		return call->rule->failure;
	case FAIL_NULL_AT5:
		if (call->arg[5])
			*(void **)call->arg[5] = NULL;
		return call->rule->failure;
	case FAIL_COPY_ZEROED:
		memset((void *)call->arg[0], 0, call->arg[2]);
		fallthrough;
	case FAIL_COPY:
		return call->arg[2];
	case FAIL_CLEAR:
		return call->arg[1];
	default:
		return call->rule->failure;
	}
}

/* With __GFP_NOFAIL it must not fail. */
static bool must_not_fail(const struct lkm_call *call)
{
	const unsigned long nofail = (__force unsigned long)(__GFP_NOFAIL | __GFP_DIRECT_RECLAIM);
	const unsigned int places = call->rule->flags >> LKM_GFP_SHIFT;
	int i;

	for (i = 0; i < ARRAY_SIZE(call->arg); i++)
		if (places & BIT(i) && call->arg[i] <= U32_MAX &&
		    (call->arg[i] & nofail) == nofail)
			return true;
	return false;
}

/* Whether this is the call to fail. */
static bool counted(const struct lkm_call *call)
{
	unsigned int n = atomic_inc_return(&calls);
	u16 site = 0;

	if (call->rule->record && n <= MOST_RECORDED) {
		site = lkm_site(call->caller);
		recording = true;
		recorded[n - 1].rule = call->rule->number;
		recorded[n - 1].site = site;
		recorded[n - 1].phase = lkm_phase();
	}
	if (n != call->rule->fail_at)
		return false;
	lkm_say("failed %u %u %d %pB", n, call->rule->number, lkm_phase(),
		(void *)call->caller);
	return true;
}

static bool wants_result(const struct lkm_rule *rule)
{
	return rule->success != OK_NEVER;
}

asmlinkage int lkm_enter(struct lkm_call *call)
{
	const struct lkm_rule *rule = call->rule;

	if (!lkm_target || in_nmi())
		return DO_JUMP;
	if (rule->fail && !must_not_fail(call) && counted(call)) {
		call->result = failure(call);
		return DO_ANSWER;
	}
	if (rule->gives && !(rule->flags & RULE_MOVES)) {
		u16 site = lkm_site(call->caller);

		if (rule->flags & RULE_BULK) {
			u64 *each = (u64 *)call->arg[2];
			size_t i;

			for (i = 0; i < call->arg[1]; i++)
				lkm_give(rule, each[i], 0, site);
		} else if (!lkm_give(rule, lkm_key(rule->give, call), lkm_key(rule->give2, call),
				     site)) {
			call->result = 0;
			return DO_ANSWER;
		}
	}
	if (!wants_result(rule))
		return DO_JUMP;
	return rule->flags & RULE_STACK ? DO_CALL_STACK : DO_CALL;
}

static bool succeeded(const struct lkm_call *call)
{
	switch (call->rule->success) {
	case OK_POINTER:
		return call->result > PAGE_SIZE && !IS_ERR((void *)call->result);
	case OK_ZERO:
		return !(int)call->result;
	case OK_NOT_NEGATIVE:
		return (int)call->result >= 0;
	case OK_TRUE:
		return call->result & 0xff;
	default:
		return true;
	}
}

asmlinkage void lkm_leave(struct lkm_call *call)
{
	const struct lkm_rule *rule = call->rule;
	u16 site;

	if (!lkm_target || !succeeded(call))
		return;
	site = lkm_site(call->caller);
	if (rule->flags & RULE_MOVES && call->arg[0])
		lkm_give(rule, call->arg[0], 0, site);
	lkm_take(rule, call, site);
}

/* "calls R.S.P ...": rule, site and phase of each that was not said before, in the order in which they were made. */
void lkm_calls_report(void)
{
	static char line[800];
	unsigned int total = atomic_read(&calls), n = min(total, (unsigned int)MOST_RECORDED);
	int at = 0;

	if (!recording)
		return;
	lkm_sites_say();
	for (; said < n; said++) {
		if (at > (int)sizeof(line) - 24) {
			lkm_say("calls%s", line);
			at = 0;
		}
		at += scnprintf(line + at, sizeof(line) - at, " %x.%x.%x", recorded[said].rule,
				recorded[said].site, recorded[said].phase);
	}
	if (at)
		lkm_say("calls%s", line);
	lkm_say("total %u", total);
}
