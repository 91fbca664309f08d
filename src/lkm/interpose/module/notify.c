// SPDX-License-Identifier: GPL-2.0-only
/*
 * lkm_interpose: told by another module's stubs what it calls. It counts, it fails the call that their rules
 * name, it keeps what the module took, and says at the end what was not given back. Everything it says is
 * in the log, behind "lkm_interpose: ", for lkm to take out again.
 */
#include <linux/module.h>
#include <linux/notifier.h>

#include "interpose.h"

struct module *lkm_target;

/* The kernel's struct module_use: of include/linux/module.h until 6.12, of kernel/module/internal.h in 7.3. */
struct use {
	struct list_head source_list, target_list;
	struct module *source, *target;
};

/* A module with stubs imports lkm_gate. */
static bool has_stubs(struct module *mod)
{
	struct use *use;

	list_for_each_entry(use, &mod->target_list, target_list)
		if (use->target == THIS_MODULE)
			return true;
	return false;
}

extern void lkm_gate(void);
EXPORT_SYMBOL(lkm_gate);

enum lkm_phase lkm_phase(void)
{
	switch (lkm_target->state) {
	case MODULE_STATE_LIVE:
		return PHASE_LIVE;
	case MODULE_STATE_GOING:
		return PHASE_EXIT;
	default:
		return PHASE_INIT;
	}
}

bool lkm_within(unsigned long address)
{
	struct module *mod = lkm_target;

	return mod && (within_module_core(address, mod) || within_module_init(address, mod));
}

static int changed(struct notifier_block *block, unsigned long state, void *data)
{
	struct module *mod = data;

	if (state == MODULE_STATE_COMING ? !has_stubs(mod) : mod != lkm_target)
		return NOTIFY_OK;
	switch (state) {
	case MODULE_STATE_COMING:
		lkm_calls_reset();
		lkm_sites_reset();
		lkm_objects_reset();
		WRITE_ONCE(lkm_target, mod);
		break;
	case MODULE_STATE_LIVE:
		lkm_calls_report();
		lkm_name_leaks();
		break;
	case MODULE_STATE_GOING:
		lkm_calls_report();
		lkm_leaks_report();
		WRITE_ONCE(lkm_target, NULL);
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block listener = { .notifier_call = changed };

static int __init lkm_interpose_init(void)
{
	int err = lkm_watch_kernel();

	return err ? err : register_module_notifier(&listener);
}
module_init(lkm_interpose_init);

MODULE_DESCRIPTION("calls between a module and the kernel, for lkm");
MODULE_LICENSE("GPL");
MODULE_INFO(intree, "Y");
