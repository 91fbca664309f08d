// SPDX-License-Identifier: GPL-2.0-only
/*
 * One open file of a channel: each request is one system call on it, with its errno. Its mappings are
 * looked at and written to here; a fault in one ends the channel, as it would end any program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define AT_CURRENT UINT64_MAX

static int fd = -1;
static unsigned char *mapping;
static size_t mapping_len;

static int end_value(struct session *s, int64_t value)
{
	return session_end(s, value < 0 ? errno : 0, &value, sizeof(value));
}

static int send_data(struct session *s, const unsigned char *data, size_t len)
{
	while (len) {
		size_t n = len < CHUNK ? len : CHUNK;

		if (session_send(s, OP_DATA, data, n))
			return -1;
		data += n;
		len -= n;
	}
	return 0;
}

/* Payload: u32 open flags, u32 mode, path\0. The value is this process, so that its stack can be looked at. */
static int serve_open(struct session *s)
{
	uint32_t head[2];

	if (s->req.len < sizeof(head) + 2)
		return session_end(s, EPROTO, NULL, 0);
	memcpy(head, s->payload, sizeof(head));
	if (fd >= 0)
		close(fd);
	fd = open((char *)s->payload + sizeof(head), head[0] | O_CLOEXEC, head[1]);
	return end_value(s, fd < 0 ? -1 : getpid());
}

static int serve_close(struct session *s)
{
	int result = close(fd);

	fd = -1;
	return end_value(s, result);
}

/* Payload: u64 position or AT_CURRENT, u32 length. The last of the data is the value: a small read is one frame. */
static int serve_read(struct session *s)
{
	uint64_t at;
	uint32_t len;
	unsigned char *buf;
	ssize_t n, more;
	int broken;

	if (s->req.len < sizeof(at) + sizeof(len))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&at, s->payload, sizeof(at));
	memcpy(&len, s->payload + sizeof(at), sizeof(len));
	buf = malloc(len ? len : 1);
	if (!buf)
		return session_end(s, ENOMEM, NULL, 0);
	n = at == AT_CURRENT ? read(fd, buf, len) : pread(fd, buf, len, at);
	more = n > CHUNK ? n - CHUNK : 0;
	if (n < 0)
		broken = end_value(s, n);
	else
		broken = send_data(s, buf, more) || session_end(s, 0, buf + more, n - more);
	free(buf);
	return broken;
}

/* Payload: u64 position or AT_CURRENT, data. */
static int serve_write(struct session *s)
{
	const unsigned char *data = s->payload + sizeof(uint64_t);
	size_t len = s->req.len - sizeof(uint64_t);
	uint64_t at;

	if (s->req.len < sizeof(at))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&at, s->payload, sizeof(at));
	return end_value(s, at == AT_CURRENT ? write(fd, data, len) : pwrite(fd, data, len, at));
}

/* Payload: s64 offset, u32 whence. */
static int serve_seek(struct session *s)
{
	int64_t offset;
	uint32_t whence;

	if (s->req.len < sizeof(offset) + sizeof(whence))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&offset, s->payload, sizeof(offset));
	memcpy(&whence, s->payload + sizeof(offset), sizeof(whence));
	return end_value(s, lseek(fd, offset, whence));
}

/*
 * Payload: u64 request, u32 whether what follows is a buffer, then it or a u64. A buffer comes back as the
 * call left it, also when it failed.
 */
static int serve_ioctl(struct session *s)
{
	struct {
		uint64_t request;
		uint32_t is_buffer;
	} __attribute__((packed)) head;
	unsigned char *rest = s->payload + sizeof(head);
	uint64_t number;
	int64_t result;
	int error;

	if (s->req.len < sizeof(head))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&head, s->payload, sizeof(head));
	if (head.is_buffer) {
		result = ioctl(fd, head.request, rest);
	} else {
		if (s->req.len < sizeof(head) + sizeof(number))
			return session_end(s, EPROTO, NULL, 0);
		memcpy(&number, rest, sizeof(number));
		result = ioctl(fd, head.request, number);
	}
	error = errno;
	if (head.is_buffer && send_data(s, rest, s->req.len - sizeof(head)))
		return -1;
	return session_end(s, result < 0 ? error : 0, &result, sizeof(result));
}

/* Payload: u32 events, s32 milliseconds. */
static int serve_poll(struct session *s)
{
	struct pollfd p = { .fd = fd };
	uint32_t events;
	int32_t limit;
	int n;

	if (s->req.len < sizeof(events) + sizeof(limit))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&events, s->payload, sizeof(events));
	memcpy(&limit, s->payload + sizeof(events), sizeof(limit));
	p.events = events;
	n = poll(&p, 1, limit);
	return end_value(s, n < 0 ? n : p.revents);
}

/* Payload: u64 length, u64 offset, u32 protection, u32 flags. */
static int serve_map(struct session *s)
{
	struct {
		uint64_t len, offset;
		uint32_t prot, flags;
	} want;
	void *at;

	if (s->req.len < sizeof(want))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&want, s->payload, sizeof(want));
	if (mapping)
		return session_end(s, EBUSY, NULL, 0);
	at = mmap(NULL, want.len, want.prot, want.flags, fd, want.offset);
	if (at == MAP_FAILED)
		return end_value(s, -1);
	mapping = at;
	mapping_len = want.len;
	return end_value(s, 0);
}

static int serve_unmap(struct session *s)
{
	int result = munmap(mapping, mapping_len);

	mapping = NULL;
	return end_value(s, result);
}

/* Payload: u64 offset, u64 length. */
static int serve_peek(struct session *s)
{
	uint64_t at[2];

	if (s->req.len < sizeof(at))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(at, s->payload, sizeof(at));
	if (!mapping || at[0] > mapping_len || at[1] > mapping_len - at[0])
		return session_end(s, EINVAL, NULL, 0);
	/* The port's driver copies with faults forbidden: touch the pages as a program would. */
	for (uint64_t i = 0; i < at[1]; i += 4096)
		(void)*(volatile unsigned char *)(mapping + at[0] + i);
	return send_data(s, mapping + at[0], at[1]) || end_value(s, at[1]);
}

/* Payload: u64 offset, data. */
static int serve_poke(struct session *s)
{
	size_t len = s->req.len - sizeof(uint64_t);
	uint64_t at;

	if (s->req.len < sizeof(at))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&at, s->payload, sizeof(at));
	if (!mapping || at > mapping_len || len > mapping_len - at)
		return session_end(s, EINVAL, NULL, 0);
	memcpy(mapping + at, s->payload + sizeof(at), len);
	return end_value(s, len);
}

/* Payload: u64 how many bytes of the window to write to the file, or to read from it. */
static int serve_bulk(struct session *s)
{
	size_t done = 0;
	ssize_t n = 0;
	uint64_t len;

	if (s->req.len < sizeof(len))
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&len, s->payload, sizeof(len));
	if (len > window_len)
		return session_end(s, ENXIO, NULL, 0);
	while (done < len) {
		n = s->req.op == OP_PUT ? write(fd, window + done, len - done) :
					  read(fd, window + done, len - done);
		if (n <= 0)
			break;
		done += n;
	}
	return end_value(s, n < 0 ? n : (int64_t)done);
}

int file_answer(struct session *s)
{
	switch (s->req.op) {
	case OP_OPEN:
		return serve_open(s);
	case OP_FILE_CLOSE:
		return serve_close(s);
	case OP_FILE_READ:
		return serve_read(s);
	case OP_FILE_WRITE:
		return serve_write(s);
	case OP_SEEK:
		return serve_seek(s);
	case OP_IOCTL:
		return serve_ioctl(s);
	case OP_POLL:
		return serve_poll(s);
	case OP_MAP:
		return serve_map(s);
	case OP_UNMAP:
		return serve_unmap(s);
	case OP_PEEK:
		return serve_peek(s);
	case OP_POKE:
		return serve_poke(s);
	case OP_PUT:
	case OP_GET:
		return serve_bulk(s);
	default:
		return session_end(s, ENOSYS, NULL, 0);
	}
}
