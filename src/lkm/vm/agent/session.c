// SPDX-License-Identifier: GPL-2.0-only
/* One control port: read a request, do it, answer. What blocks, blocks this session alone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

int session_send(struct session *s, uint16_t op, const void *data, size_t len)
{
	return port_send(s->port, op, 0, s->req.id, data, len);
}

int session_end(struct session *s, int status, const void *data, size_t len)
{
	return port_send(s->port, OP_END, status, s->req.id, data, len);
}

/*
 * A frame that is no answer to what runs. A request says that its host has gone and another one is here:
 * what runs is given up, and that request is served next. Anything else is not our language.
 */
int session_interrupted(struct session *s, const struct frame *f, unsigned char *payload)
{
	if (f->op >= OP_REQUESTS_END)
		return -1;
	s->req = *f;
	s->payload = payload;
	s->again = 1;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* The log of what was just done, then how it ended and how long it took. */
static int end_with_log(struct session *s, long result, uint64_t started)
{
	int status = result < 0 ? errno : 0;
	uint64_t spent = now_ns() - started;

	kmsg_flush();
	if (kmsg_drain(s->kmsg, s->port, s->req.id, 0))
		return -1;
	return session_end(s, status, &spent, sizeof(spent));
}

/* What comes next in the log is of this request. A host that keeps the whole log gets first what was before. */
static int begin_log(struct session *s)
{
	if (s->watched)
		return 0;
	if (!s->req.status) {
		kmsg_begin(s->kmsg);
		return 0;
	}
	kmsg_flush();
	return kmsg_drain(s->kmsg, s->port, s->req.id, 1);
}

/* Takes a text with its u32 length before it from what is left of a payload. NULL where it is not whole. */
static char *take_text(unsigned char **payload, size_t *left)
{
	uint32_t len;
	char *text;

	if (*left < sizeof(len))
		return NULL;
	memcpy(&len, *payload, sizeof(len));
	if (len > *left - sizeof(len))
		return NULL;
	text = strndup((char *)*payload + sizeof(len), len);
	*payload += sizeof(len) + len;
	*left -= sizeof(len) + len;
	return text;
}

/* Payload: u32 length of the arguments, arguments, object. */
static int serve_load(struct session *s)
{
	unsigned char *object = s->payload;
	size_t len = s->req.len;
	char *args = take_text(&object, &len);
	uint64_t started;
	long result;

	if (!args)
		return session_end(s, EPROTO, NULL, 0);
	s->watched = 0;
	if (begin_log(s)) {
		free(args);
		return -1;
	}
	started = now_ns();
	result = syscall(SYS_init_module, object, (unsigned long)len, args);
	free(args);
	return end_with_log(s, result, started);
}

/* Payload: the module's name. */
static int serve_unload(struct session *s)
{
	uint64_t started;
	long result;

	if (begin_log(s))
		return -1;
	s->watched = 0;
	started = now_ns();
	result = syscall(SYS_delete_module, s->payload, O_NONBLOCK);
	return end_with_log(s, result, started);
}

/* A load and an unload with nothing between them; what became of the load is one frame of data: u64 ns, u32 errno. */
static int go_in_and_out(struct session *s, const char *name, const char *args, void *object, size_t len)
{
	struct {
		uint64_t spent;
		uint32_t error;
	} __attribute__((packed)) load;
	uint64_t started;
	long result = -1;

	s->watched = 0;
	if (begin_log(s))
		return -1;
	started = now_ns();
	load.error = syscall(SYS_init_module, object, (unsigned long)len, args) ? errno : 0;
	load.spent = now_ns() - started;
	/* It does not wait for the host: the port's queue has room. */
	if (session_send(s, OP_DATA, &load, sizeof(load)))
		return -1;
	started = now_ns();
	errno = load.error;
	if (!load.error)
		result = syscall(SYS_delete_module, name, O_NONBLOCK);
	return end_with_log(s, result, started);
}

/*
 * Payload: u32 length of the name, name, then as for a load. A guest that waits for its host between a load and an
 * unload may leap to its next timer. The log of both and the end of the unload come last; a load that is refused
 * ends it.
 */
static int serve_in_and_out(struct session *s)
{
	unsigned char *object = s->payload;
	size_t len = s->req.len;
	char *name = take_text(&object, &len);
	char *args = name ? take_text(&object, &len) : NULL;
	int broken = args ? go_in_and_out(s, name, args, object, len) : session_end(s, EPROTO, NULL, 0);

	free(name);
	free(args);
	return broken;
}

static int send_file(struct session *s, const char *path)
{
	static char buf[CHUNK];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int status;

	if (fd < 0)
		return session_end(s, errno, NULL, 0);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (session_send(s, OP_DATA, buf, n))
			break;
	status = n < 0 ? errno : 0;
	close(fd);
	return n > 0 ? -1 : session_end(s, status, NULL, 0);
}

/* Payload: u32 open flags, u32 mode, path\0, data. One write(2), as a sysfs attribute wants it. */
static int serve_write(struct session *s)
{
	uint32_t head[2];
	const char *path = (char *)s->payload + sizeof(head);
	const unsigned char *data, *end = s->payload + s->req.len;
	ssize_t n = 0;
	int fd, status = 0;

	if (s->req.len < sizeof(head) + 2)
		return session_end(s, EPROTO, NULL, 0);
	memcpy(head, s->payload, sizeof(head));
	data = (unsigned char *)path + strlen(path) + 1;
	if (data > end)
		return session_end(s, EPROTO, NULL, 0);
	fd = open(path, head[0] | O_CLOEXEC, head[1]);
	if (fd < 0)
		return session_end(s, errno, NULL, 0);
	while (data < end && (n = write(fd, data, end - data)) > 0)
		data += n;
	if (n < 0)
		status = errno;
	if (close(fd) && !status)
		status = errno;
	return session_end(s, status, NULL, 0);
}

/* Entries as "TYPE NAME\0", the type as in ls -l. */
static int serve_list(struct session *s)
{
	static const char types[] = "?pc?d?b?-?l?s";
	char entry[300];
	struct dirent *e;
	DIR *dir = opendir((char *)s->payload);

	if (!dir)
		return session_end(s, errno, NULL, 0);
	while ((e = readdir(dir))) {
		int type = e->d_type < sizeof(types) - 1 ? types[e->d_type] : '?';
		int len;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		len = snprintf(entry, sizeof(entry), "%c %s", type, e->d_name);
		if (session_send(s, OP_DATA, entry, len + 1)) {
			closedir(dir);
			return -1;
		}
	}
	closedir(dir);
	return session_end(s, 0, NULL, 0);
}

/*
 * Payload: the module's name. For each of its parameters in sysfs one frame: u32 mode, s32 errno of the
 * read, name\0, value.
 */
static int serve_params(struct session *s)
{
	static char buf[CHUNK];
	char path[300];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters", (char *)s->payload);
	dir = opendir(path);
	if (!dir)
		return session_end(s, errno == ENOENT ? 0 : errno, NULL, 0);
	while ((e = readdir(dir))) {
		uint32_t head[2] = { 0, 0 };
		size_t at = sizeof(head);
		struct stat st;
		ssize_t n = 0;
		int fd;

		if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, 0))
			continue;
		head[0] = st.st_mode & 07777;
		at += snprintf(buf + at, 256, "%s", e->d_name) + 1;
		if (st.st_mode & 0444) {
			fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_CLOEXEC);
			n = fd < 0 ? -1 : read(fd, buf + at, sizeof(buf) - at);
			if (n < 0)
				head[1] = errno;
			if (fd >= 0)
				close(fd);
		} else {
			head[1] = EACCES;
		}
		memcpy(buf, head, sizeof(head));
		if (session_send(s, OP_DATA, buf, at + (n > 0 ? n : 0))) {
			closedir(dir);
			return -1;
		}
	}
	closedir(dir);
	return session_end(s, 0, NULL, 0);
}

/* Payload: u64 wall clock in ns, 32 random bytes: what a restored machine must not share with others. */
static int serve_clock(struct session *s)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[32];
	} pool = { .info = { .entropy_count = 256, .buf_size = 32 } };
	struct timespec t;
	uint64_t ns;
	int fd;

	if (s->req.len < sizeof(ns) + sizeof(pool.bytes))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&ns, s->payload, sizeof(ns));
	memcpy(pool.info.buf, s->payload + sizeof(ns), sizeof(pool.bytes));
	t.tv_sec = ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	clock_settime(CLOCK_REALTIME, &t);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	ioctl(fd, RNDADDENTROPY, &pool);
	ioctl(fd, RNDRESEEDCRNG, 0);
	close(fd);
	return session_end(s, 0, NULL, 0);
}

/* Payload: u32: 0 what is new to this session, 1 from the oldest record, 2 follow. */
static int serve_kmsg(struct session *s)
{
	uint32_t mode;

	if (s->req.len < sizeof(mode))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&mode, s->payload, sizeof(mode));
	if (mode == 1)
		lseek(s->kmsg, 0, SEEK_SET);
	if (mode == 2)
		return kmsg_follow(s);
	kmsg_flush();
	if (kmsg_drain(s->kmsg, s->port, s->req.id, 0))
		return -1;
	return session_end(s, 0, NULL, 0);
}

static int streaming(struct session *s, int (*work)(struct session *s))
{
	int broken;

	if (s->from != s->port)
		return work(s); /* its port never blocks */
	port_streams(s->port, 1);
	broken = work(s);
	port_streams(s->port, 0);
	return broken;
}

int session_answer(struct session *s)
{
	switch (s->req.op) {
	case OP_PING:
		return session_end(s, 0, s->payload, s->req.len > CHUNK ? CHUNK : s->req.len);
	case OP_LOAD:
		return serve_load(s);
	case OP_UNLOAD:
		return serve_unload(s);
	case OP_READ:
		return send_file(s, (char *)s->payload);
	case OP_WRITE:
		return serve_write(s);
	case OP_LIST:
		return serve_list(s);
	case OP_EXEC:
		return streaming(s, exec_serve);
	case OP_KMSG:
		return streaming(s, serve_kmsg);
	case OP_CLOCK:
		return serve_clock(s);
	case OP_PARAMS:
		return serve_params(s);
	case OP_INVENTORY:
		return inventory_make(s);
	case OP_SETTLE:
		return inventory_settle(s);
	case OP_IN_AND_OUT:
		return serve_in_and_out(s);
	case OP_STAT:
	case OP_READLINK:
	case OP_CHANGE:
		return path_answer(s);
	case OP_STDIN:
	case OP_STDIN_EOF:
	case OP_SIGNAL:
	case OP_WINSIZE:
	case OP_STOP:
		return 0; /* meant for a program that has just ended */
	default:
		return file_answer(s);
	}
}

void session_serve(int port, int kmsg)
{
	struct session s = { .port = port, .from = port, .kmsg = kmsg };

	for (;;) {
		port_wait(port);
		s.watched = 0;
		while (s.again || !port_recv(port, &s.req, &s.payload)) {
			s.again = 0;
			if (session_answer(&s))
				break;
		}
		/* The host has gone, or speaks another language: the next one begins afresh. */
	}
}
