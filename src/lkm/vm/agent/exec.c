// SPDX-License-Identifier: GPL-2.0-only
/* A program in the guest: its output streamed, its exit status told, on pipes or on a terminal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

struct program {
	pid_t pid;
	int in, out, err; /* on a terminal all three are its master */
	int pty;
	/* What the host sent and the program has not taken; nothing more is read from the port meanwhile. */
	const unsigned char *feed;
	size_t left;
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

static void child(char **argv, char **env, const char *cwd, int in, int out, int err, int pty)
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
	if (*cwd && chdir(cwd)) {
		dprintf(2, "%s: %s\n", cwd, strerror(errno));
		_exit(127);
	}
	environ = env;
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
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

static int launch(struct program *p, char **argv, char **env, const char *cwd,
		  const struct winsize_wire *size)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, slave = -1, failed = 0;

	if (p->pty) {
		if (open_terminal(p, &slave, size))
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
			child(argv, env, cwd, slave, slave, slave, 1);
		child(argv, env, cwd, in[0], out[1], err[1], 0);
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
static void feed(struct program *p)
{
	ssize_t n = write(p->in, p->feed, p->left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		p->left = 0;
		return;
	}
	p->feed += n;
	p->left -= n;
}

static void end_input(struct program *p)
{
	static const unsigned char eof = 4;

	if (p->pty) {
		p->feed = &eof;
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

	if (port_recv(s->port, &f, &data))
		return -1;
	switch (f.op) {
	case OP_STDIN:
		p->feed = data;
		p->left = p->in < 0 ? 0 : f.len;
		return 0;
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
			{ .fd = ended ? -1 : s->port, .events = p->left ? 0 : POLLIN },
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
		if (f[3].revents)
			feed(p);
		if (f[2].revents && p->left)
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
static int run_program(struct session *s, struct program *p, char **argv, char **env, const char *cwd,
		       const struct winsize_wire *size)
{
	int status = 0, broken;
	int32_t code;

	if (launch(p, argv, env, cwd, size)) {
		status = errno;
		close_all(p);
		return session_end(s, status, NULL, 0);
	}
	broken = pump(s, p, &status);
	if (broken)
		give_up(p);
	close_all(p);
	if (broken)
		return s->again ? 0 : -1;
	code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	return session_end(s, 0, &code, sizeof(code));
}

/* Payload: u32 flags, u32 argc, u32 envc, rows, cols, cwd\0, argv\0..., env\0... */
int exec_serve(struct session *s)
{
	struct program p = { .pid = -1, .in = -1, .out = -1, .err = -1 };
	struct winsize_wire size;
	uint32_t head[3];
	char *at = (char *)s->payload + sizeof(head) + sizeof(size);
	char *end = (char *)s->payload + s->req.len, **argv, **env;
	const char *cwd = at;
	int broken;

	if (s->req.len < sizeof(head) + sizeof(size) + 2)
		return session_end(s, EPROTO, NULL, 0);
	memcpy(head, s->payload, sizeof(head));
	memcpy(&size, s->payload + sizeof(head), sizeof(size));
	p.pty = head[0] & EXEC_PTY;
	at += strlen(cwd) + 1;
	argv = split(&at, end, head[1]);
	env = split(&at, end, head[2]);
	if (argv && env && argv[0])
		broken = run_program(s, &p, argv, env, cwd, &size);
	else
		broken = session_end(s, EINVAL, NULL, 0);
	free(argv);
	free(env);
	return broken;
}
