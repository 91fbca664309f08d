// SPDX-License-Identifier: GPL-2.0-only
/* The kernel log, record by record, as /dev/kmsg gives it (Documentation/ABI/testing/dev-kmsg). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

/* One record is at most CONSOLE_EXT_LOG_MAX (8192, kernel/printk/printk.c) bytes long. */
#define RECORD_MAX 8192

/* What one answer may carry: a kernel that logs without end would keep it from ending. */
#define DRAIN_MAX (16u << 20)

static const char mark[] = "<7>lkm-agent: mark\n";

int kmsg_open(void)
{
	return open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/*
 * A line that was printed without its newline stays open for pr_cont(), and no reader is shown it until
 * the next record begins (prb_reserve_in_last(), 5.10 and newer). Begin one; the host leaves it out.
 */
void kmsg_flush(void)
{
	static int out = -1;

	if (out < 0)
		out = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (write(out, mark, sizeof(mark) - 1) < 0)
		return;
}

static char buf[CHUNK];
static size_t have;

/*
 * Begin here: what comes next is told apart from what was. The mark's own record is kept for the next
 * drain, so that the host can count by sequence numbers what the ring has lost since.
 */
void kmsg_begin(int kmsg)
{
	ssize_t n;

	lseek(kmsg, 0, SEEK_END);
	kmsg_flush();
	n = read(kmsg, buf, sizeof(buf));
	have = n > 0 ? n : 0;
}

/* Everything that the log has beyond this position, as OP_LOG frames, which say if it is from `earlier`. */
int kmsg_drain(int kmsg, int port, uint32_t id, int earlier)
{
	size_t sent = 0;

	for (;;) {
		ssize_t n = read(kmsg, buf + have, sizeof(buf) - have);

		if (n < 0 && (errno == EPIPE || errno == EINTR))
			continue; /* overrun: the gap shows in the sequence numbers */
		if (n > 0)
			have += n;
		if (n <= 0 || sizeof(buf) - have < RECORD_MAX) {
			if (have && port_send(port, OP_LOG, earlier, id, buf, have))
				return -1;
			sent += have;
			have = 0;
		}
		if (n <= 0 || sent > DRAIN_MAX)
			return 0;
	}
}

/* Records as they come, until the host says stop. */
int kmsg_follow(struct session *s)
{
	struct pollfd p[2] = {
		{ .fd = s->kmsg, .events = POLLIN },
		{ .fd = s->from, .events = POLLIN },
	};
	struct frame f;
	unsigned char *payload;

	for (;;) {
		if (kmsg_drain(s->kmsg, s->port, s->req.id, 0))
			return -1;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -1;
		if (p[1].revents)
			break;
	}
	if (port_recv(s->from, &f, &payload))
		return -1;
	return f.op == OP_STOP ? session_end(s, 0, NULL, 0) : session_interrupted(s, &f, payload);
}
