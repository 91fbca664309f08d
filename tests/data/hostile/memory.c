// SPDX-License-Identifier: GPL-2.0-only
/* Attacks on the guest's memory. */

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/processor-flags.h>

#include "hostile.h"

/* The kernel's own text, read-only or not. */
static int kernel_text(void)
{
	unsigned long cr0, at = (unsigned long)schedule & ~(PMD_SIZE - 1);

	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~X86_CR0_WP) : "memory");
	memset((void *)at, 0xcc, PMD_SIZE);
	return 0;
}

/* All memory from the first MiB up: page tables, rings of the devices, processes. */
static int all_memory(void)
{
	memset(phys_to_virt(1 << 20), 0xff, 64 << 20);
	return 0;
}

static int fill_pages(void)
{
	for (;;) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

		if (!page)
			cond_resched();
	}
	return 0;
}

static int fill_vmalloc(void)
{
	for (;;)
		if (!vzalloc(1 << 20))
			cond_resched();
	return 0;
}

static int break_slab(void)
{
	int i, j;

	for (i = 0; i < 1000; i++) {
		void *one = kmalloc(64, GFP_KERNEL);

		for (j = 0; j < 4096; j += 8)
			*(unsigned long *)((char *)one + j) = 0x4141414141414141UL;
		kfree(one);
		kfree(one);
	}
	return 0;
}

/* Gone from the list of modules: it can be neither found nor unloaded. */
static int hide(void)
{
	list_del_init(&THIS_MODULE->list);
	return 0;
}

const struct attack memory_attacks[] = {
	{ "kernel_text", kernel_text },
	{ "all_memory", all_memory },
	{ "fill_pages", fill_pages },
	{ "fill_vmalloc", fill_vmalloc },
	{ "break_slab", break_slab },
	{ "hide", hide },
	{ }
};
