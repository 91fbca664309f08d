// SPDX-License-Identifier: GPL-2.0-only
/* PID 1 in the guest: sets the system up, starts a session a control port, and watches over them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

static struct {
	int port;
	int kmsg; /* shared with its process: what that one has not sent, we can */
	pid_t pid;
} sessions[AGENT_SESSIONS + 1]; /* the last one is the mux */

static const struct {
	const char *source, *target, *type, *options;
} mounts[] = {
	{ "proc", "/proc", "proc", NULL },
	{ "sysfs", "/sys", "sysfs", NULL },
	{ "devtmpfs", "/dev", "devtmpfs", NULL },
	{ "devpts", "/dev/pts", "devpts", "ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", "tmpfs", NULL },
	{ "tmpfs", "/tmp", "tmpfs", NULL },
	{ "tmpfs", "/run", "tmpfs", NULL },
	{ "debugfs", "/sys/kernel/debug", "debugfs", NULL },
	{ "tracefs", "/sys/kernel/tracing", "tracefs", NULL },
	{ "configfs", "/sys/kernel/config", "configfs", NULL },
};

/* What cannot go on says so on the console, where the host is reading, and powers off. */
static void give_up(const char *what)
{
	fprintf(stderr, "lkm-agent: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void mount_all(void)
{
	for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
		mkdir(mounts[i].target, 0755);
		/* A kernel without debugfs or configfs is a kernel all the same. */
		mount(mounts[i].source, mounts[i].target, mounts[i].type, 0, mounts[i].options);
	}
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* /lkm/boot/NN-NAME.ko, in the order of their names: what the kernel needs to reach the ports. */
static void load_boot_modules(void)
{
	struct dirent **list;
	int n = scandir("/lkm/boot", &list, NULL, by_name);

	for (int i = 0; i < n; i++) {
		char path[300];
		int fd;

		if (list[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/lkm/boot/%s", list[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			give_up(path);
		close(fd);
	}
}

/* The device tells of its ports by messages: they come some time after its driver was loaded. */
static int await_port(const char *name)
{
	static const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	int port = -1;

	for (int tries = 0; port < 0 && tries < 500; tries++) {
		if (tries)
			nanosleep(&pause, NULL);
		port = port_open(name);
	}
	if (port < 0)
		give_up(name);
	return port;
}

static void start_session(int i)
{
	pid_t pid = fork();

	if (pid < 0)
		give_up("fork");
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_IGN);
		if (i == AGENT_SESSIONS)
			mux_serve(sessions[i].port, sessions[i].kmsg);
		session_serve(sessions[i].port, sessions[i].kmsg);
	}
	sessions[i].pid = pid;
}

/* A session that the kernel killed (an oops in insmod) is told to the host, and started anew. */
static void reap(int watch)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i <= AGENT_SESSIONS; i++)
			if (sessions[i].pid == pid) {
				int32_t report[2] = { i, WIFSIGNALED(status) ? WTERMSIG(status) : 0 };

				start_session(i);
				if (port_connected(watch))
					port_send(watch, OP_DIED, 0, 0, report, sizeof(report));
			}
}

/* Where each session's process is in the kernel: "N\0" and its /proc/PID/stack. */
static int send_stacks(int watch, uint32_t id)
{
	static char buf[CHUNK];

	for (int i = 0; i < AGENT_SESSIONS; i++) {
		char path[64];
		size_t have;
		ssize_t n;
		int fd;

		have = snprintf(buf, sizeof(buf), "%d", i) + 1;
		snprintf(path, sizeof(path), "/proc/%d/stack", sessions[i].pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (fd >= 0 && have < sizeof(buf) &&
		       (n = read(fd, buf + have, sizeof(buf) - have)) > 0)
			have += n;
		if (fd >= 0)
			close(fd);
		if (port_send(watch, OP_DATA, 0, id, buf, have))
			return -1;
	}
	return port_send(watch, OP_END, 0, id, NULL, 0);
}

/* What a session that does not answer any more has not sent of the log. Payload: u32 its number. */
static int send_log(int watch, const struct frame *req, const unsigned char *payload)
{
	uint32_t i;

	if (req->len < sizeof(i))
		return port_send(watch, OP_END, EPROTO, req->id, NULL, 0);
	memcpy(&i, payload, sizeof(i));
	if (i >= AGENT_SESSIONS)
		return port_send(watch, OP_END, EINVAL, req->id, NULL, 0);
	kmsg_flush();
	if (kmsg_drain(sessions[i].kmsg, watch, req->id, 0))
		return -1;
	return port_send(watch, OP_END, 0, req->id, NULL, 0);
}

static int serve_watch(int watch)
{
	struct frame req;
	unsigned char *payload;

	if (port_recv(watch, &req, &payload))
		return -1;
	switch (req.op) {
	case OP_PING:
		return port_send(watch, OP_END, 0, req.id, NULL, 0);
	case OP_KMSG:
		return send_log(watch, &req, payload);
	case OP_STACKS:
		return send_stacks(watch, req.id);
	case OP_POWEROFF:
		port_send(watch, OP_END, 0, req.id, NULL, 0);
		reboot(RB_POWER_OFF);
		return 0;
	default:
		return port_send(watch, OP_END, ENOSYS, req.id, NULL, 0);
	}
}

static void watch_over(int watch)
{
	sigset_t set;
	int children;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	children = signalfd(-1, &set, SFD_CLOEXEC);
	if (children < 0)
		give_up("signalfd");
	port_streams(watch, 1);
	fcntl(watch, F_SETOWN, getpid());
	fcntl(watch, F_SETFL, fcntl(watch, F_GETFL) | O_ASYNC);
	for (;;) {
		/* Without a host the port is hung up for good: sleep until SIGIO tells of a change. */
		struct pollfd p[2] = {
			{ .fd = children, .events = POLLIN },
			{ .fd = port_connected(watch) ? watch : -1, .events = POLLIN },
		};
		struct signalfd_siginfo info;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents && read(children, &info, sizeof(info)) > 0)
			reap(watch);
		if (p[1].revents & POLLIN)
			serve_watch(watch);
	}
}

/*
 * The kernel runs `modprobe -q -- NAME` for request_module() (call_modprobe(), kernel/module/kmod.c). There is none
 * in the guest: what is asked for is told in the log, and the host has it there the next time.
 */
static int tell_request(const char *name)
{
	char line[200];
	int len = snprintf(line, sizeof(line), "<6>modprobe -q -- %s", name);
	int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	/* A write is a record; dprintf() of glibc 2.31 seeks first, which this file refuses. */
	write(log, line, len < (int)sizeof(line) ? len : (int)sizeof(line) - 1);
	return 1;
}

/* A root file system with a modprobe of its own keeps it. */
static void take_requests(void)
{
	static const char path[] = "/lkm/modprobe";
	int fd;

	if (!access("/sbin/modprobe", X_OK))
		return;
	fd = open("/proc/sys/kernel/modprobe", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* a kernel that loads nothing by itself */
	write(fd, path, sizeof(path) - 1);
	close(fd);
}

int main(int argc, char **argv)
{
	static const uint32_t hello = AGENT_PROTOCOL;
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char name[32];
	int watch;

	if (getpid() != 1)
		return tell_request(argv[argc - 1]);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	mount_all();
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	sethostname("lkm", 3);
	load_boot_modules();
	take_requests();
	window_open();
	inventory_open();
	watch = await_port("lkm.watch");
	for (int i = 0; i <= AGENT_SESSIONS; i++) {
		snprintf(name, sizeof(name), i < AGENT_SESSIONS ? "lkm.%d" : "lkm.mux", i);
		sessions[i].port = await_port(name);
		sessions[i].kmsg = kmsg_open();
		lseek(sessions[i].kmsg, 0, SEEK_END);
		start_session(i);
	}
	port_send(watch, OP_HELLO, 0, 0, &hello, sizeof(hello));
	watch_over(watch);
}
