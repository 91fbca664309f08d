// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a module can leave behind: names under /proc, /sys and /dev, and lines of the kernel's lists. An
 * inventory keeps a hash of each, in the order in which they are met; a second look says which are new. The
 * order hardly changes, so a look at each is one comparison, and the whole costs a few milliseconds.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define ENTRIES_MAX 16384
#define DEPTH_MAX 4
#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

/* Shared by all sessions: one may load the module, another unload it. */
static struct inventory {
	size_t count;
	uint64_t hash[ENTRIES_MAX];
} *before;

static int comparing;
static int with_tasks; /* whether to look at the processes in /proc, which come last and cost most */
static size_t at; /* where in the inventory the next entry is expected */
static char answer[CHUNK];
static size_t answered;

/* What to look at, of the parts that the host names; the twin of Area in `machine.py`. */
enum {
	PROC = 1, SYSCTL = 2, DEVICES = 4, SYSFS = 8, CACHES = 16, OTHER = 32, THREADS = 64,
	MISC = 128, NET = 256, TIMERS = 512,
	ALWAYS = ~0
};

struct place {
	int area;
	const char *path;
	int depth; /* how many levels of directories below are looked into */
	const char *except; /* names that are not looked into, each between blanks */
};

/* What devices, classes, file systems and caches make; not what is only another view of the same. */
static const struct place places[] = {
	{ PROC | THREADS, "/proc", 3, " sys irq pci self thread-self pressure sysvipc " },
	{ PROC, "/proc/1/net", 2, "" },
	{ SYSCTL, "/proc/sys", 4, " binfmt_misc " },
	{ MISC, "/sys/class/misc", 0, "" },
	{ NET, "/sys/class/net", 0, "" },
	{ DEVICES, "/sys/class", 1, "" },
	{ DEVICES, "/sys/bus", 2, "" },
	{ DEVICES, "/sys/devices", 0, "" },
	{ DEVICES, "/sys/devices/system", 0, "" },
	{ SYSFS, "/sys/firmware", 1, "" },
	{ SYSFS, "/sys/fs", 1, "" },
	{ SYSFS, "/sys/kernel", 0, "" },
	{ SYSFS, "/sys/kernel/config", 0, "" },
	{ SYSFS, "/sys/kernel/debug", 1, " tracing slab " },
	{ SYSFS, "/sys/kernel/security", 0, "" },
	{ CACHES, "/sys/kernel/slab", 0, "" },
	{ ALWAYS, "/sys/module", 0, "" },
	{ DEVICES | MISC, "/dev", 2, " pts shm " },
};

/* How much of a line names the thing; the rest is what changes by itself. */
enum line { WHOLE, FIRST_WORD, INTERRUPT, DRIVER, MODULE, PROBE, TIMER };

static const struct list {
	int area;
	const char *path, *kind;
	enum line line;
} lists[] = {
	{ OTHER, "/proc/consoles", "console", FIRST_WORD },
	{ OTHER, "/proc/crypto", "crypto", DRIVER },
	{ DEVICES, "/proc/devices", "device", WHOLE },
	{ OTHER, "/proc/filesystems", "filesystem", WHOLE },
	{ DEVICES, "/proc/interrupts", "interrupt", INTERRUPT },
	{ DEVICES, "/proc/iomem", "iomem", WHOLE },
	{ DEVICES, "/proc/ioports", "ioport", WHOLE },
	{ DEVICES | MISC, "/proc/misc", "misc", WHOLE },
	{ ALWAYS, "/proc/modules", "module", MODULE },
	{ OTHER, "/proc/1/mounts", "mount", WHOLE },
	{ TIMERS, "/proc/timer_list", "hrtimer", TIMER },
	{ OTHER, "/proc/1/net/protocols", "protocol", FIRST_WORD },
	{ OTHER, "/proc/1/net/ptype", "packet", WHOLE },
	{ DEVICES, "/proc/tty/drivers", "tty", WHOLE },
	{ OTHER, "/proc/tty/ldiscs", "ldisc", WHOLE },
	{ OTHER, "/sys/kernel/debug/kprobes/list", "kprobe", PROBE },
};

static uint64_t hashed(uint64_t hash, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ull; /* FNV-1a */
	return hash;
}

/* Whether the inventory has it; a new one is added while it is being made. */
static int known(uint64_t hash)
{
	size_t count = before->count;

	if (!comparing) {
		if (count < ENTRIES_MAX)
			before->hash[before->count++] = hash;
		return 1;
	}
	for (size_t n = 0; n < count; n++) {
		size_t i = at + n < count ? at + n : at + n - count;

		if (before->hash[i] == hash) {
			at = i + 1;
			return 1;
		}
	}
	return count == ENTRIES_MAX; /* one that was full says nothing of what it had no room for */
}

static void report(const char *kind, const char *name, const char *more)
{
	int n = snprintf(answer + answered, sizeof(answer) - answered, "%s\t%s\t%s", kind, name, more);

	if (n > 0 && answered + n + 1 < sizeof(answer))
		answered += n + 1;
}

static size_t read_all(const char *path, char *into, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	while (have < size - 1 && (n = read(fd, into + have, size - 1 - have)) > 0)
		have += n;
	close(fd);
	into[have] = '\0';
	return have;
}

/* A new process is told of where it is a thread of the kernel, with its stack; but not the kernel's helpers. */
static void look_at_task(const char *pid)
{
	static const char *const passing[] = { "kworker/", "cryptomgr_", "migration/", "ksoftirqd/" };
	static char stat[512], stack[4096], name[64];
	char path[64], *end;
	unsigned long flags;

	snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
	if (!read_all(path, stat, sizeof(stat)))
		return;
	end = strrchr(stat, ')');
	if (!end || sscanf(end, ") %*c %*d %*d %*d %*d %*d %lu", &flags) != 1 || !(flags & PF_KTHREAD))
		return;
	*end = '\0';
	snprintf(name, sizeof(name), "%s", strchr(stat, '(') + 1);
	for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
		if (!strncmp(name, passing[i], strlen(passing[i])) && strncmp(name, "kworker/R-", 10))
			return;
	snprintf(path, sizeof(path), "/proc/%.16s/stack", pid);
	stack[0] = '\0';
	read_all(path, stack, sizeof(stack));
	strcat(strcat(name, " "), pid);
	report("kthread", name, stack);
}

static const char *target_of(const char *link)
{
	static char target[256];
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	target[n > 0 ? n : 0] = '\0';
	return target;
}

static char path[1024];

static void look_into(int parent, const char *name, size_t len, int depth, uint64_t hash,
		      const char *except);

static void look_at_entry(int dir, const struct dirent64 *e, size_t len, int depth, uint64_t hash,
			  const char *except)
{
	size_t name = strlen(e->d_name);
	char blanks[280];
	int task;

	if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
		return;
	if (len + name + 2 > sizeof(path))
		return;
	task = len == 5 && isdigit(e->d_name[0]) && !memcmp(path, "/proc", 5);
	path[len] = '/';
	memcpy(path + len + 1, e->d_name, name + 1);
	hash = hashed(hash, path + len, name + 1);
	if (!known(hash)) {
		if (task)
			look_at_task(e->d_name);
		else
			report("path", path, e->d_type == DT_LNK ? target_of(path) : "");
		return;
	}
	if (task || !depth || e->d_type != DT_DIR)
		return;
	snprintf(blanks, sizeof(blanks), " %s ", e->d_name);
	if (!strstr(except, blanks))
		look_into(dir, e->d_name, len + 1 + name, depth - 1, hash, except);
}

/* The directory `name` of `parent`, whose `path` has `len` bytes and this `hash`. */
static void look_into(int parent, const char *name, size_t len, int depth, uint64_t hash,
		      const char *except)
{
	static char entries[DEPTH_MAX + 1][8192] __attribute__((aligned(8)));
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
	int to_tasks = !with_tasks && len == 5 && !memcmp(path, "/proc", 5);
	size_t room = to_tasks ? 512 : sizeof(entries[depth]);
	long n;

	if (fd < 0)
		return;
	while ((n = syscall(SYS_getdents64, fd, entries[depth], room)) > 0) {
		for (long i = 0; i < n;) {
			const struct dirent64 *e = (void *)(entries[depth] + i);

			if (to_tasks && isdigit(e->d_name[0]))
				goto out;
			look_at_entry(fd, e, len, depth, hash, except);
			i += e->d_reclen;
		}
		path[len] = '\0';
	}
out:
	close(fd);
}

static char *after_word(char *line)
{
	line += strspn(line, " ");
	return line + strcspn(line, " \t:");
}

/* The part of a line that names the thing, NULL for a line that names none. */
static char *named(char *line, enum line how)
{
	static char name[256];
	char *end;

	switch (how) {
	case FIRST_WORD:
		*after_word(line) = '\0';
		return line;
	case DRIVER:
		/* `hmac(md5-generic)` is an instance of a template: it stays for the next who asks for it */
		if (strncmp(line, "driver ", 7) || strchr(line, '('))
			return NULL;
		return line + strcspn(line, ":") + 2;
	case INTERRUPT:
		/* `25:  103  PCI-MSIX-0000:00:02.0   1-edge  virtio1-virtqueues`: the number and the last word */
		end = strrchr(line, ' ');
		line += strspn(line, " ");
		if (!end || !isdigit(*line))
			return NULL;
		snprintf(name, sizeof(name), "%.*s %s", (int)strcspn(line, ":"), line, end + 1);
		return name;
	case MODULE:
		/* `crc16 16384 1 ext4, Live 0x...`: its name and the count of its references */
		end = after_word(line);
		snprintf(name, sizeof(name), "%.*s %d", (int)(end - line), line, atoi(after_word(end)));
		return name;
	case PROBE:
		/* `ffffffff81234560  k  do_sys_open+0x0  [FTRACE]`: what is probed */
		end = strstr(line, "  ");
		end = end ? strstr(end + 2, "  ") : NULL;
		return end ? end + 2 : line;
	case TIMER:
		/* ` #1: <00000000c0ffee00>, 0xffffffffc0201056, S:01`: a function where none is; 5.10 has <c0ffee01> */
		if (strncmp(line, " #", 2) || !(line = strchr(line, ',')) || (line[2] != '0' && line[2] != '<'))
			return NULL;
		line += 2;
		line[strcspn(line, ",")] = '\0';
		return line;
	default:
		return line;
	}
}

static void look_at_list(const struct list *list)
{
	static char text[65536];
	const char *section = "";
	uint64_t start = hashed(0, list->kind, strlen(list->kind));

	if (!read_all(list->path, text, sizeof(text)))
		return;
	for (char *line = text, *next; line; line = next) {
		char *name;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (list->line == WHOLE && !strncmp(line, "Block devices:", 14))
			section = "block";
		name = *line ? named(line, list->line) : NULL;
		if (!name || known(hashed(hashed(start, section, strlen(section)), name, strlen(name))))
			continue;
		report(list->kind, name, section);
	}
}

static void look_around(uint32_t areas)
{
	at = 0;
	with_tasks = areas & THREADS;
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		size_t len = strlen(places[i].path);

		if (!(places[i].area & areas))
			continue;
		memcpy(path, places[i].path, len + 1);
		look_into(AT_FDCWD, path, len, places[i].depth, hashed(0, path, len), places[i].except);
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		if (lists[i].area & areas)
			look_at_list(&lists[i]);
}

void inventory_open(void)
{
	before = mmap(NULL, sizeof(*before), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (before == MAP_FAILED)
		before = NULL;
}

/* Remember what there is. */
int inventory_make(struct session *s)
{
	uint64_t count;

	if (!before)
		return session_end(s, ENOMEM, NULL, 0);
	before->count = 0;
	comparing = 0;
	look_around(ALWAYS);
	count = before->count;
	return session_end(s, 0, &count, sizeof(count));
}

static void sleep_for(uint64_t ns)
{
	struct timespec left = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

/*
 * Payload: u64 how long to wait, in ns, u32 which areas to compare. What the kernel said meanwhile, then what
 * is there that the inventory has not: KIND\tNAME\tMORE\0...
 */
int inventory_settle(struct session *s)
{
	uint64_t ns;
	uint32_t areas;

	if (s->req.len < sizeof(ns) + sizeof(areas))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&ns, s->payload, sizeof(ns));
	memcpy(&areas, s->payload + sizeof(ns), sizeof(areas));
	sleep_for(ns);
	answered = 0;
	if (areas && before && before->count) {
		comparing = 1;
		look_around(areas);
	}
	kmsg_flush();
	if (kmsg_drain(s->kmsg, s->port, s->req.id, 0))
		return -1;
	s->watched = 1;
	if (answered && session_send(s, OP_DATA, answer, answered))
		return -1;
	return session_end(s, 0, NULL, 0);
}
