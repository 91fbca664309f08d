// SPDX-License-Identifier: GPL-2.0-only
/* Attacks by instructions that only a kernel may execute. */

#include <linux/compiler.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/string.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/page.h>
#include <asm/processor.h>

#include "hostile.h"

static volatile int forever = 1;

static int irqs_off_spin(void)
{
	local_irq_disable();
	while (forever)
		cpu_relax();
	return 0;
}

static int preempt_off_spin(void)
{
	preempt_disable();
	while (forever)
		cpu_relax();
	return 0;
}

static int halt_for_ever(void)
{
	local_irq_disable();
	while (forever)
		asm volatile("hlt");
	return 0;
}

/* An interrupt table of our own, in which every vector, the NMI's too, returns at once. */
static gate_desc deaf_table[256] __aligned(PAGE_SIZE);

asm(".pushsection .text\n"
    ".globl hostile_return\n"
    "hostile_return: iretq\n"
    ".popsection\n");
extern void hostile_return(void);

static int deaf(void)
{
	struct desc_ptr table = {
		.size = sizeof(deaf_table) - 1,
		.address = (unsigned long)deaf_table,
	};
	unsigned long to = (unsigned long)hostile_return;
	int i;

	for (i = 0; i < ARRAY_SIZE(deaf_table); i++) {
		deaf_table[i].offset_low = to;
		deaf_table[i].offset_middle = to >> 16;
		deaf_table[i].offset_high = to >> 32;
		deaf_table[i].segment = __KERNEL_CS;
		deaf_table[i].bits.type = GATE_INTERRUPT;
		deaf_table[i].bits.p = 1;
	}
	local_irq_disable();
	asm volatile("lidt %0" : : "m"(table));
	while (forever)
		cpu_relax();
	return 0;
}

static int triple_fault(void)
{
	struct desc_ptr nothing = { };

	asm volatile("lidt %0\n\tint3" : : "m"(nothing));
	return 0;
}

static int no_page_tables(void)
{
	asm volatile("mov %0, %%cr3" : : "r"(0UL) : "memory");
	return 0;
}

static noinline int deeper(int depth)
{
	volatile char frame[512];

	if (!forever)
		return depth;
	frame[depth % sizeof(frame)] = depth;
	return deeper(depth + 1) + frame[0];
}

static int endless_recursion(void)
{
	return deeper(0);
}

/* What system calls, interrupts and per-CPU data are found by. */
static int registers(void)
{
	static const u32 wanted[] = {
		MSR_LSTAR, MSR_STAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_EIP,
		MSR_IA32_APICBASE, MSR_GS_BASE,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		asm volatile("wrmsr" : : "c"(wanted[i]), "a"(0x41414000), "d"(0));
	return 0;
}

const struct attack processor_attacks[] = {
	{ "irqs_off_spin", irqs_off_spin },
	{ "preempt_off_spin", preempt_off_spin },
	{ "halt", halt_for_ever },
	{ "deaf", deaf },
	{ "triple_fault", triple_fault },
	{ "no_page_tables", no_page_tables },
	{ "endless_recursion", endless_recursion },
	{ "registers", registers },
	{ }
};
