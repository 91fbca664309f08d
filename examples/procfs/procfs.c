// SPDX-License-Identifier: GPL-2.0-only
/*
 * procfs - a list in /proc, and a setting beside it
 *
 * /proc/procfs/notes	a line written to it is kept, and read back with its
 *			number; an empty one forgets them all
 * /proc/procfs/limit	how many notes are kept
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define NOTE_MAX 128

struct note {
	struct list_head list;
	unsigned int number;
	char text[];
};

/* The oldest first. */
static LIST_HEAD(notes);
static unsigned int count, last_number;
static unsigned int limit = 1000;
static DEFINE_MUTEX(lock);

static void forget_oldest(unsigned int keep)
{
	while (count > keep) {
		struct note *note = list_first_entry(&notes, struct note, list);

		list_del(&note->list);
		kfree(note);
		count--;
	}
}

static int keep_note(const char *text)
{
	size_t size = strlen(text) + 1;
	struct note *note = kmalloc(sizeof(*note) + size, GFP_KERNEL);

	if (!note)
		return -ENOMEM;
	memcpy(note->text, text, size);
	mutex_lock(&lock);
	note->number = ++last_number;
	list_add_tail(&note->list, &notes);
	count++;
	forget_oldest(limit);
	mutex_unlock(&lock);
	return 0;
}

/* A reader goes through the list in pieces, and holds the lock for one piece. */
static void *notes_start(struct seq_file *seq, loff_t *pos)
{
	mutex_lock(&lock);
	return seq_list_start(&notes, *pos);
}

static void *notes_next(struct seq_file *seq, void *at, loff_t *pos)
{
	return seq_list_next(at, &notes, pos);
}

static void notes_stop(struct seq_file *seq, void *at)
{
	mutex_unlock(&lock);
}

static int notes_show(struct seq_file *seq, void *at)
{
	const struct note *note = list_entry(at, struct note, list);

	seq_printf(seq, "%u: %s\n", note->number, note->text);
	return 0;
}

static const struct seq_operations notes_seq_ops = {
	.start = notes_start,
	.next = notes_next,
	.stop = notes_stop,
	.show = notes_show,
};

static int notes_open(struct inode *inode, struct file *file)
{
	return seq_open(file, &notes_seq_ops);
}

static ssize_t notes_write(struct file *file, const char __user *from,
			   size_t size, loff_t *pos)
{
	char *text;
	int error = 0;

	if (size > NOTE_MAX)
		return -EMSGSIZE;
	text = memdup_user_nul(from, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	strim(text);
	if (strchr(text, '\n')) {
		error = -EINVAL;
	} else if (*text) {
		error = keep_note(text);
	} else {
		mutex_lock(&lock);
		forget_oldest(0);
		mutex_unlock(&lock);
	}
	kfree(text);
	return error ?: size;
}

static const struct proc_ops notes_ops = {
	.proc_open = notes_open,
	.proc_read = seq_read,
	.proc_write = notes_write,
	.proc_lseek = seq_lseek,
	.proc_release = seq_release,
};

static int limit_show(struct seq_file *seq, void *unused)
{
	seq_printf(seq, "%u\n", READ_ONCE(limit));
	return 0;
}

static int limit_open(struct inode *inode, struct file *file)
{
	return single_open(file, limit_show, NULL);
}

static ssize_t limit_write(struct file *file, const char __user *from,
			   size_t size, loff_t *pos)
{
	unsigned int wanted;
	int error;

	error = kstrtouint_from_user(from, size, 0, &wanted);
	if (error)
		return error;
	if (!wanted)
		return -ERANGE;
	mutex_lock(&lock);
	WRITE_ONCE(limit, wanted);
	forget_oldest(limit);
	mutex_unlock(&lock);
	return size;
}

static const struct proc_ops limit_ops = {
	.proc_open = limit_open,
	.proc_read = seq_read,
	.proc_write = limit_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static struct proc_dir_entry *directory;

static int __init procfs_init(void)
{
	directory = proc_mkdir(KBUILD_MODNAME, NULL);
	if (!directory)
		return -ENOMEM;
	if (proc_create("notes", 0644, directory, &notes_ops) &&
	    proc_create("limit", 0600, directory, &limit_ops))
		return 0;
	proc_remove(directory);
	return -ENOMEM;
}

static void __exit procfs_exit(void)
{
	proc_remove(directory);
	forget_oldest(0);
}

module_init(procfs_init);
module_exit(procfs_exit);

MODULE_DESCRIPTION("a list and a setting in /proc");
MODULE_LICENSE("GPL");
