// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many sessions over one port: open files, programs, whatever the host wants at the same time. The upper half
 * of a frame's id is its channel. Each channel is a process of its own, so that what blocks, blocks it alone,
 * and what oopses ends it alone. Requests come in through us; answers each process writes to the port
 * itself: a frame is one write, and the driver sends one write of up to 32 KiB as one buffer (port_fops_write(),
 * drivers/char/virtio_console.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

static struct channel {
	uint32_t number;
	pid_t pid; /* 0: this place is free */
	int sock;
} *channels;
static size_t places;

static struct channel *channel_of(uint32_t id)
{
	for (size_t i = 0; i < places; i++)
		if (channels[i].pid && channels[i].number == id >> 16)
			return &channels[i];
	return NULL;
}

static struct channel *free_place(void)
{
	struct channel *more;

	for (size_t i = 0; i < places; i++)
		if (!channels[i].pid)
			return &channels[i];
	more = reallocarray(channels, places + 8, sizeof(*more));
	if (!more)
		return NULL;
	channels = more;
	for (size_t i = 0; i < 8; i++)
		channels[places + i].pid = 0;
	places += 8;
	return &channels[places - 8];
}

static void __attribute__((noreturn)) serve_channel(int sock, int port, int kmsg)
{
	struct session s = { .from = sock, .port = port, .kmsg = kmsg };
	sigset_t none;

	for (size_t i = 0; i < places; i++)
		if (channels[i].pid)
			close(channels[i].sock);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	while (s.again || !port_recv(sock, &s.req, &s.payload)) {
		s.again = 0;
		if (session_answer(&s))
			break;
	}
	_exit(0);
}

static struct channel *channel_begin(uint32_t id, int port, int kmsg)
{
	struct channel *c = free_place();
	int pair[2];

	if (!c || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return NULL;
	c->pid = fork();
	if (c->pid == 0) {
		close(pair[0]);
		serve_channel(pair[1], port, kmsg);
	}
	close(pair[1]);
	if (c->pid < 0) {
		c->pid = 0;
		close(pair[0]);
		return NULL;
	}
	c->number = id >> 16;
	c->sock = pair[0];
	return c;
}

static int forward(int sock, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = write(sock, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1; /* it has ended, which its SIGCHLD tells */
		at += n;
		len -= n;
	}
	return 0;
}

/* Whoever runs a program hears the end of its socket and ends that first; anybody else just goes. */
static void channel_end(struct channel *c)
{
	shutdown(c->sock, SHUT_RDWR);
	kill(c->pid, SIGTERM);
}

static int take_frame(int port, int kmsg)
{
	unsigned char *payload;
	struct channel *c;
	struct frame f;

	if (port_recv(port, &f, &payload))
		return -1;
	c = channel_of(f.id);
	if (f.op == OP_CLOSE) {
		if (c)
			channel_end(c);
		return 0;
	}
	if (!c && f.op < OP_REQUESTS_END)
		c = channel_begin(f.id, port, kmsg);
	if (!c)
		return f.op < OP_REQUESTS_END ? port_send(port, OP_END, ENOMEM, f.id, NULL, 0) : 0;
	if (!forward(c->sock, &f, sizeof(f)))
		forward(c->sock, payload, f.len);
	return 0;
}

static void reap(int port)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < places; i++)
			if (channels[i].pid == pid) {
				int32_t signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

				close(channels[i].sock);
				channels[i].pid = 0;
				if (port_connected(port))
					port_send(port, OP_DIED, 0, channels[i].number << 16, &signal,
						  sizeof(signal));
			}
}

/* The host has gone: the next one begins with no channel. */
static void end_all(int port)
{
	for (size_t i = 0; i < places; i++)
		if (channels[i].pid)
			channel_end(&channels[i]);
	reap(port);
}

static void serve_host(int port, int kmsg, int children)
{
	for (;;) {
		struct pollfd p[2] = {
			{ .fd = port, .events = POLLIN },
			{ .fd = children, .events = POLLIN },
		};
		struct signalfd_siginfo info;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents && read(children, &info, sizeof(info)) > 0)
			reap(port);
		if (p[0].revents & POLLHUP)
			return;
		if (p[0].revents & POLLIN && take_frame(port, kmsg))
			return;
	}
}

void mux_serve(int port, int kmsg)
{
	sigset_t set;
	int children;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		port_wait(port);
		port_streams(port, 1);
		serve_host(port, kmsg, children);
		end_all(port);
		port_streams(port, 0);
	}
}
