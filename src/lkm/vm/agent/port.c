// SPDX-License-Identifier: GPL-2.0-only
/* Frames over a virtio console port. A bad frame ends the session, never hangs it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

/* The device whose port was given this name on QEMU's command line. */
int port_open(const char *name)
{
	char path[300], got[64];
	struct dirent *entry;
	DIR *dir = opendir("/sys/class/virtio-ports");
	int found = -1;

	if (!dir)
		return -1;
	while (found < 0 && (entry = readdir(dir))) {
		int fd;
		ssize_t n;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, got, sizeof(got) - 1);
		close(fd);
		if (n <= 0)
			continue;
		got[n] = '\0';
		got[strcspn(got, "\n")] = '\0';
		if (strcmp(got, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		found = open(path, O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	return found;
}

/* Whether a host is at the other end. Writing to a port without one would block. */
int port_connected(int port)
{
	struct pollfd p = { .fd = port, .events = POLLIN };

	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
}

/* Sleep until a host is there. The driver sends SIGIO when that changes. */
void port_wait(int port)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fcntl(port, F_SETOWN, getpid());
	fcntl(port, F_SETFL, fcntl(port, F_GETFL) | O_ASYNC);
	while (!port_connected(port))
		sigwait(&set, &sig);
	fcntl(port, F_SETFL, fcntl(port, F_GETFL) & ~O_ASYNC);
}

/*
 * While an answer streams, its host may vanish and the next one come: a write that blocks would then go on
 * as if nothing had happened. On a port that does not block, poll() tells of the hangup.
 */
void port_streams(int port, int on)
{
	int flags = fcntl(port, F_GETFL);

	fcntl(port, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

/* After EAGAIN. Fails when the host has gone. */
static int wait_for(int port, short events)
{
	struct pollfd p = { .fd = port, .events = events };

	if (poll(&p, 1, -1) < 0)
		return errno == EINTR ? 0 : -1;
	return p.revents & events ? 0 : -1;
}

static int recv_all(int port, void *into, size_t len)
{
	unsigned char *at = into;

	while (len) {
		ssize_t n = read(port, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && !wait_for(port, POLLIN))
			continue;
		if (n <= 0)
			return -1;
		at += n;
		len -= n;
	}
	return 0;
}

/*
 * One frame. Small payloads land in a buffer that was touched before the machine was frozen, so that a
 * restored machine takes no page faults for them; a large one is mapped until the next frame comes.
 */
int port_recv(int port, struct frame *req, unsigned char **payload)
{
	static unsigned char small[CHUNK * 4];
	static unsigned char *large;
	static size_t large_len;

	if (large) {
		munmap(large, large_len);
		large = NULL;
	}
	if (recv_all(port, req, sizeof(*req)))
		return -1;
	if (req->len > FRAME_MAX)
		return -1;
	if (req->len < sizeof(small)) {
		*payload = small;
	} else {
		large_len = req->len + 1;
		large = mmap(NULL, large_len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (large == MAP_FAILED) {
			large = NULL;
			return -1;
		}
		*payload = large;
	}
	if (recv_all(port, *payload, req->len))
		return -1;
	(*payload)[req->len] = '\0';
	return 0;
}

int port_send(int port, uint16_t op, int status, uint32_t id, const void *data, size_t len)
{
	static unsigned char joined[sizeof(struct frame) + CHUNK];
	struct frame head = { .len = len, .op = op, .status = status, .id = id };
	const unsigned char *at = joined;
	size_t left = sizeof(head) + len;

	if (len > CHUNK)
		return -1;
	/* One write, one buffer, one kick of the device. */
	memcpy(joined, &head, sizeof(head));
	if (len)
		memcpy(joined + sizeof(head), data, len);
	while (left) {
		ssize_t n = write(port, at, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && !wait_for(port, POLLOUT))
			continue;
		if (n <= 0)
			return -1;
		at += n;
		left -= n;
	}
	return 0;
}
