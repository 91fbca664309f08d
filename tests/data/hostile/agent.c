// SPDX-License-Identifier: GPL-2.0-only
/* Attacks on the host through the agent's ports, with frames that the agent never sent. */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "hostile.h"

#define MOST	16
#define BLOCK	32768

/* src/lkm/vm/agent/agent.h */
struct frame {
	u32 len;
	u16 op;
	s16 status;
	u32 id;
};

#define OP_DATA	64
#define OP_LOG	65
#define OP_END	68
#define OP_DIED	97

static struct file *ports[MOST];
static int found;

static int remember(const void *prefix, struct file *file, unsigned int fd)
{
	int i;

	if (strncmp(file->f_path.dentry->d_name.name, prefix, strlen(prefix)))
		return 0;
	for (i = 0; i < found; i++)
		if (ports[i] == file)
			return 0;
	if (found < MOST)
		ports[found++] = get_file(file);
	return 0;
}

/* The driver lets nobody else open the agent's ports, so take them from its processes. */
static void find_ports(void)
{
	struct task_struct *task;

	rcu_read_lock();
	for_each_process(task)
		if (task->files)
			iterate_fd(task->files, 0, remember, "vport");
	rcu_read_unlock();
	pr_info("found %d ports\n", found);
}

/* The driver copies from a process: the block is put where this one, insmod's, can see it. */
static unsigned long user_block(void)
{
	return vm_mmap(NULL, 0, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
}

static void tell(int port, unsigned long block, size_t len)
{
	loff_t at = 0;

	ports[port]->f_op->write(ports[port], (char __user *)block, len, &at);
}

static int garbage(void)
{
	unsigned long block = user_block();
	static char bytes[BLOCK];
	int i;

	find_ports();
	get_random_bytes(bytes, sizeof(bytes));
	if (copy_to_user((void __user *)block, bytes, sizeof(bytes)))
		return -EFAULT;
	for (i = 0; i < found; i++)
		tell(i, block, sizeof(bytes));
	return 0;
}

/* A block of frames for all of the first requests, for the ports of the sessions, the mux and the watch. */
static size_t frames(unsigned long block, u16 op, u32 len)
{
	static char bytes[BLOCK];
	size_t at = 0;
	u32 id = 1;

	while (at + sizeof(struct frame) + len <= sizeof(bytes)) {
		struct frame frame = { .len = len, .op = op, .id = id++ % 8 };

		memcpy(bytes + at, &frame, sizeof(frame));
		at += sizeof(frame) + len;
	}
	if (copy_to_user((void __user *)block, bytes, at))
		return 0;
	return at;
}

static int endless_frames(u16 op, u32 len)
{
	unsigned long block = user_block();
	size_t size = frames(block, op, len);
	int i;

	find_ports();
	for (;;)
		for (i = 0; i < found; i++)
			tell(i, block, size);
	return 0;
}

static int endless_data(void)
{
	return endless_frames(OP_DATA, 1000);
}

static int endless_records(void)
{
	return endless_frames(OP_LOG, 1000);
}

static int endless_deaths(void)
{
	return endless_frames(OP_DIED, 8);
}

/* Says that all went well, and then does not come back. */
static int forged_answer(void)
{
	unsigned long block = user_block();
	size_t size = frames(block, OP_END, 8);
	int i;

	find_ports();
	for (i = 0; i < found; i++)
		tell(i, block, size);
	for (;;)
		cpu_relax();
	return 0;
}

static int half_a_frame(void)
{
	unsigned long block = user_block();
	int i;

	find_ports();
	frames(block, OP_LOG, 16000);
	for (i = 0; i < found; i++)
		tell(i, block, 8000);
	for (;;)
		cpu_relax();
	return 0;
}

const struct attack agent_attacks[] = {
	{ "garbage", garbage },
	{ "endless_data", endless_data },
	{ "endless_records", endless_records },
	{ "endless_deaths", endless_deaths },
	{ "forged_answer", forged_answer },
	{ "half_a_frame", half_a_frame },
	{ }
};
