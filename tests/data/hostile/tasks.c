// SPDX-License-Identifier: GPL-2.0-only
/* Attacks by threads, processes, the log and the file system. */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kmod.h>
#include <linux/kthread.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "hostile.h"

static int sleep_for_ever(void *unused)
{
	for (;;)
		msleep(1000);
	return 0;
}

static int endless_threads(void)
{
	for (;;)
		kthread_run(sleep_for_ever, NULL, "hostile");
	return 0;
}

static int flood(void *unused)
{
	unsigned long i;

	for (i = 0;; i++)
		pr_emerg("line %lu of a flood that does not end\n", i);
	return 0;
}

static int endless_log(void)
{
	return flood(NULL);
}

static int endless_log_behind(void)
{
	kthread_run(flood, NULL, "hostile");
	return 0;
}

static int kill_first_process(void)
{
	struct task_struct *task;

	rcu_read_lock();
	for_each_process(task)
		if (task->pid == 1)
			send_sig(SIGKILL, task, 1);
	rcu_read_unlock();
	return 0;
}

static int kill_all_processes(void)
{
	struct task_struct *task;

	rcu_read_lock();
	for_each_process(task)
		if (task->pid > 2 && !(task->flags & PF_KTHREAD))
			send_sig(SIGKILL, task, 1);
	rcu_read_unlock();
	return 0;
}

static int fork_bomb(void)
{
	static char *argv[] = { "/bin/sh", "-c", "b() { b | b & }; b; sleep 1000", NULL };
	static char *envp[] = { "PATH=/bin", NULL };

	return call_usermodehelper(argv[0], argv, envp, UMH_WAIT_EXEC);
}

static int fill_files(void)
{
	char *block = kzalloc(1 << 16, GFP_KERNEL);
	struct file *file = filp_open("/fill", O_CREAT | O_WRONLY, 0600);
	loff_t at = 0;

	while (!IS_ERR(file) && kernel_write(file, block, 1 << 16, &at) > 0)
		;
	return 0;
}

const struct attack task_attacks[] = {
	{ "endless_threads", endless_threads },
	{ "endless_log", endless_log },
	{ "endless_log_behind", endless_log_behind },
	{ "kill_first_process", kill_first_process },
	{ "kill_all_processes", kill_all_processes },
	{ "fork_bomb", fork_bomb },
	{ "fill_files", fill_files },
	{ }
};
