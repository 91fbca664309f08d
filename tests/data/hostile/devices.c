// SPDX-License-Identifier: GPL-2.0-only
/* Attacks on the devices, which are QEMU's own code. */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/pci.h>
#include <linux/reboot.h>

#include "hostile.h"

#define COM1	0x3f8
#define PM1_CONTROL	0x604	/* q35: the power management block is at 0x600 */
#define SLEEP_ENABLE	(1 << 13)
#define SLEEP_S3	(1 << 10)

static void write_ports(u32 value, int first, int last)
{
	int port;

	for (port = first; port <= last; port++)
		outb(value, port);
	for (port = first; port < last; port += 4)
		outl(value, port);
}

static int every_port(void)
{
	static const u32 values[] = { 0xffffffff, 0, 0x5a5a5a5a };
	int i;

	local_irq_disable();
	/* Those that reset the machine come last. */
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		write_ports(values[i], 0, 0x5f);
		write_ports(values[i], 0x70, 0x91);
		write_ports(values[i], 0x93, 0x5ff);
		write_ports(values[i], 0x680, 0xcf7);
		write_ports(values[i], 0xd00, 0xffff);
	}
	write_ports(0xffffffff, 0, 0xffff);
	local_irq_enable();
	return 0;
}

static int pci_config(void)
{
	static const u32 values[] = { 0xffffffff, 0, 0x5a5a5a5a };
	struct pci_dev *dev = NULL;
	int i, at;

	for_each_pci_dev(dev)
		for (i = 0; i < ARRAY_SIZE(values); i++)
			for (at = 0; at < 4096; at += 4)
				pci_write_config_dword(dev, at, values[i]);
	return 0;
}

static void write_area(resource_size_t start, resource_size_t size)
{
	void __iomem *base = ioremap(start, size);
	resource_size_t at;

	if (!base)
		return;
	for (at = 0; at + 4 <= size; at += 4)
		writel(0xffffffff ^ (at << 3), base + at);
	iounmap(base);
}

/* What the devices are driven by, the rings' addresses and their doorbells among them. */
static int device_memory(void)
{
	struct pci_dev *dev = NULL;
	int bar;

	for_each_pci_dev(dev)
		for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (pci_resource_flags(dev, bar) & IORESOURCE_MEM)
				write_area(pci_resource_start(dev, bar),
					   min_t(resource_size_t, pci_resource_len(dev, bar), 1 << 20));
	write_area(0xfed00000, 4096);	/* HPET */
	write_area(0xfec00000, 4096);	/* I/O APIC */
	return 0;
}

static int endless_serial(void)
{
	for (;;)
		outb('x', COM1);
	return 0;
}

static int restart(void)
{
	emergency_restart();
	return 0;
}

static int reset_by_port(void)
{
	outb(6, 0xcf9);
	return 0;
}

static int power_off_by_port(void)
{
	outw(SLEEP_ENABLE, PM1_CONTROL);
	return 0;
}

static int suspend_by_port(void)
{
	local_irq_disable();
	outw(SLEEP_ENABLE | SLEEP_S3, PM1_CONTROL);
	for (;;)
		cpu_relax();
	return 0;
}

const struct attack device_attacks[] = {
	{ "every_port", every_port },
	{ "pci_config", pci_config },
	{ "device_memory", device_memory },
	{ "endless_serial", endless_serial },
	{ "restart", restart },
	{ "reset_by_port", reset_by_port },
	{ "power_off_by_port", power_off_by_port },
	{ "suspend_by_port", suspend_by_port },
	{ }
};
