// SPDX-License-Identifier: GPL-2.0-only
/* The places that calls come from: their return addresses, each with a small number. */
#include <linux/hash.h>
#include <linux/kernel.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "interpose.h"

#define BITS 11
#define MOST (1 << BITS)
#define NAMES 512

/* Site 0 stands for those that found no room. */
static unsigned long address_of[MOST];
static u16 name_of[MOST];
static char names[NAMES][96];
static unsigned int named;
static DEFINE_RAW_SPINLOCK(lock);

void lkm_sites_reset(void)
{
	memset(address_of, 0, sizeof(address_of));
	memset(name_of, 0, sizeof(name_of));
	named = 0;
}

u16 lkm_site(unsigned long address)
{
	unsigned int start = hash_long(address, BITS), i, at;
	unsigned long flags;
	u16 found = 0;

	raw_spin_lock_irqsave(&lock, flags);
	for (i = 0; i < MOST && !found; i++) {
		at = (start + i) % MOST;
		if (!at)
			continue;
		if (!address_of[at])
			address_of[at] = address;
		if (address_of[at] == address)
			found = at;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	return found;
}

/* What the kernel calls the place. It is asked while it knows: once init is over, its text has no names. */
const char *lkm_site_name(u16 site)
{
	if (!site)
		return "?";
	if (!name_of[site] && named < NAMES - 1) {
		snprintf(names[++named], sizeof(names[0]), "%pB", (void *)address_of[site]);
		name_of[site] = named;
	}
	return name_of[site] ? names[name_of[site]] : "?";
}

/* "site S NAME" for each that was not said before. */
void lkm_sites_say(void)
{
	unsigned int at;

	for (at = 1; at < MOST; at++) {
		if (!address_of[at] || name_of[at])
			continue;
		lkm_say("site %x %s", at, lkm_site_name(at));
	}
}
