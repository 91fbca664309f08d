// SPDX-License-Identifier: GPL-2.0-only
/* A program in the guest: its output streamed, its exit status told, on pipes or on a terminal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"

#define EXEC_PTY 1u

struct winsize_wire {
	uint16_t rows, cols;
};

/* How a program is wanted. Payload: this head, cwd\0, argv\0..., env\0... */
struct wanted {
	struct {
		uint32_t flags, argc, envc, uid, gid;
		struct winsize_wire size;
	} head;
	const char *cwd;
	char **argv, **env;
};

struct program {
	pid_t pid;
	int in, out, err; /* on a terminal all three are its master */
	int pty;
	/* What the host sent and the program has not taken; the host sends no more until it is told. */
	unsigned char input[CHUNK];
	size_t fed, left;
};

static void close_if(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* "a\0b\0" into a NULL-terminated vector; NULL when that many are not there. */
static char **split(char **at, const char *end, size_t count)
{
	char **into;

	if (count > (size_t)(end - *at))
		return NULL;
	into = calloc(count + 1, sizeof(*into));
	for (size_t n = 0; into && n < count; n++) {
		if (*at >= end) {
			free(into);
			return NULL;
		}
		into[n] = *at;
		*at += strlen(*at) + 1;
	}
	return into;
}

static void child(const struct wanted *want, int in, int out, int err, int pty)
{
	sigset_t none;

	setsid();
	if (pty)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (setgroups(0, NULL) || setgid(want->head.gid) || setuid(want->head.uid) ||
	    (*want->cwd && chdir(want->cwd))) {
		dprintf(2, "%s: %s\n", want->cwd, strerror(errno));
		_exit(127);
	}
	environ = want->env;
	execvp(want->argv[0], want->argv);
	dprintf(2, "%s: %s\n", want->argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int open_terminal(struct program *p, int *slave, const struct winsize_wire *size)
{
	struct winsize ws = { .ws_row = size->rows, .ws_col = size->cols };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) || unlockpt(master))
		return -1;
	ioctl(master, TIOCSWINSZ, &ws);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	p->in = p->out = master;
	p->err = -1;
	return *slave < 0 ? -1 : 0;
}

static int launch(struct program *p, const struct wanted *want)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, slave = -1, failed = 0;

	if (p->pty) {
		if (open_terminal(p, &slave, &want->head.size))
			return -1;
	} else {
		if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
			return -1;
		p->in = in[1];
		p->out = out[0];
		p->err = err[0];
	}
	p->pid = fork();
	if (p->pid == 0) {
		if (p->pty)
			child(want, slave, slave, slave, 1);
		child(want, in[0], out[1], err[1], 0);
	}
	failed = p->pid < 0;
	fcntl(p->in, F_SETFL, O_NONBLOCK);
	close_if(&in[0]);
	close_if(&out[1]);
	close_if(&err[1]);
	close_if(&slave);
	return failed ? -1 : 0;
}

static void resize(struct program *p, const struct winsize_wire *size)
{
	struct winsize ws = { .ws_row = size->rows, .ws_col = size->cols };

	ioctl(p->out, TIOCSWINSZ, &ws);
}

/* Give the program what it will take of its input. One that has closed it gets no more. */
static int feed(struct session *s, struct program *p)
{
	ssize_t n = write(p->in, p->input + p->fed, p->left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		n = p->left;
	p->fed += n;
	p->left -= n;
	return p->left ? 0 : session_send(s, OP_TAKEN, NULL, 0);
}

static void end_input(struct program *p)
{
	if (p->pty) {
		p->input[0] = 4; /* ^D */
		p->fed = 0;
		p->left = 1;
	} else {
		close_if(&p->in);
	}
}

static void signal_all(struct program *p, int sig)
{
	/* Its group is its own only once it has called setsid(). */
	if (kill(-p->pid, sig))
		kill(p->pid, sig);
}

/* What the host says while the program runs. */
static int heed_host(struct session *s, struct program *p)
{
	struct winsize_wire size;
	unsigned char *data;
	struct frame f;
	int sig;

	if (port_recv(s->from, &f, &data))
		return -1;
	switch (f.op) {
	case OP_STDIN:
		if (p->left || f.len > sizeof(p->input))
			return -1;
		memcpy(p->input, data, f.len);
		p->fed = 0;
		p->left = p->in < 0 ? 0 : f.len;
		return p->left ? 0 : session_send(s, OP_TAKEN, NULL, 0);
	case OP_STDIN_EOF:
		end_input(p);
		return 0;
	case OP_SIGNAL:
		if (f.len < sizeof(sig))
			return -1;
		memcpy(&sig, data, sizeof(sig));
		signal_all(p, sig);
		return 0;
	case OP_WINSIZE:
		if (f.len < sizeof(size))
			return -1;
		memcpy(&size, data, sizeof(size));
		resize(p, &size);
		return 0;
	default:
		return session_interrupted(s, &f, data);
	}
}

static int forward(struct session *s, int *fd, uint16_t op)
{
	static char buf[CHUNK];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		*fd = -1; /* EIO on a terminal whose last user has gone */
		return 0;
	}
	return session_send(s, op, buf, n);
}

/* Stream until the program has ended and its pipes are drained. */
static int pump(struct session *s, struct program *p, int *status)
{
	int out = p->out, err = p->err, ended = 0;

	while (out >= 0 || err >= 0 || !ended) {
		struct pollfd f[4] = {
			{ .fd = out, .events = POLLIN },
			{ .fd = err, .events = POLLIN },
			{ .fd = ended ? -1 : s->from, .events = POLLIN },
			{ .fd = p->left && !ended ? p->in : -1, .events = POLLOUT },
		};
		/* Its last close comes a moment before its end. */
		int ready = poll(f, 4, ended ? 0 : out < 0 && err < 0 ? 1 : 100);

		if (ready < 0 && errno != EINTR)
			return -1;
		if (f[0].revents && forward(s, &out, OP_STDOUT))
			return -1;
		if (f[1].revents && forward(s, &err, OP_STDERR))
			return -1;
		if (f[3].revents && feed(s, p))
			return -1;
		if (f[2].revents && heed_host(s, p))
			return -1;
		if (s->again)
			return -1;
		/* A child that it left behind may hold the pipes open for ever. */
		if (ended && ready == 0)
			break;
		if (!ended && waitpid(p->pid, status, WNOHANG) == p->pid)
			ended = 1;
	}
	return 0;
}

static void give_up(struct program *p)
{
	signal_all(p, SIGKILL);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void close_all(struct program *p)
{
	if (p->in != p->out)
		close_if(&p->in);
	close_if(&p->out);
	close_if(&p->err);
}

/* Run it, and tell how it ended; -1 when the host cannot be told. */
static int run_program(struct session *s, const struct wanted *want)
{
	static struct program p;
	int status = 0, broken;
	int32_t code, pid;

	p = (struct program){ .pid = -1, .in = -1, .out = -1, .err = -1, .pty = want->head.flags & EXEC_PTY };
	if (launch(&p, want)) {
		status = errno;
		close_all(&p);
		return session_end(s, status, NULL, 0);
	}
	pid = p.pid;
	broken = session_send(s, OP_STARTED, &pid, sizeof(pid)) || pump(s, &p, &status);
	if (broken)
		give_up(&p);
	close_all(&p);
	if (broken)
		return s->again ? 0 : -1;
	code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	return session_end(s, 0, &code, sizeof(code));
}

int exec_serve(struct session *s)
{
	struct wanted want;
	char *at = (char *)s->payload + sizeof(want.head);
	char *end = (char *)s->payload + s->req.len;
	sigset_t closing;
	int broken;

	if (s->req.len < sizeof(want.head) + 2)
		return session_end(s, EPROTO, NULL, 0);
	/* A channel that is closed hears the end of its socket here, and ends the program first. */
	sigemptyset(&closing);
	sigaddset(&closing, SIGTERM);
	sigprocmask(SIG_BLOCK, &closing, NULL);
	memcpy(&want.head, s->payload, sizeof(want.head));
	want.cwd = at;
	at += strlen(want.cwd) + 1;
	want.argv = split(&at, end, want.head.argc);
	want.env = split(&at, end, want.head.envc);
	if (want.argv && want.env && want.argv[0])
		broken = run_program(s, &want);
	else
		broken = session_end(s, EINVAL, NULL, 0);
	free(want.argv);
	free(want.env);
	return broken;
}
