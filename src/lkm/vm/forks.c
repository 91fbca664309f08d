// SPDX-License-Identifier: GPL-2.0-only
/*
 * A QEMU that is loaded and linked, and forks instead of going on to main(): LD_PRELOAD has this run as the
 * last constructor, when there is one thread yet. A child's main() gets the words of its request: _start takes
 * argc and argv from the stack, which the dynamic linker hands to constructors (glibc; others crash, and nothing is
 * forked then).
 *
 * Linked with nothing, so that it fits any C library that has these functions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MAX 24
#define FIRST_FD 100 /* forks.py: where the descriptors of a request are in the child */

static char words[1 << 16];

struct ancillary {
	struct cmsghdr head;
	int fds[FDS_MAX];
};

static int number(const char *text)
{
	int n = 0;

	while (*text >= '0' && *text <= '9')
		n = n * 10 + *text++ - '0';
	return n;
}

static void answer(int control, int value, int fd)
{
	struct ancillary more = {
		.head = { CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS },
		.fds = { fd },
	};
	struct iovec data = { &value, sizeof(value) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &more;
		message.msg_controllen = CMSG_SPACE(sizeof(fd));
	}
	if (sendmsg(control, &message, MSG_NOSIGNAL) < 0)
		_exit(1);
}

/* The length of the request, whose descriptors are in `fds`; ends with the other end. */
static ssize_t request(int control, int *fds, int *count)
{
	struct ancillary more;
	struct iovec data = { words, sizeof(words) - 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &more, .msg_controllen = sizeof(more),
	};
	ssize_t n;

	do
		n = recvmsg(control, &message, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		_exit(0);
	words[n] = 0;
	*count = 0;
	if (message.msg_controllen >= sizeof(struct cmsghdr)) {
		*count = (more.head.cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, more.fds, *count * sizeof(int));
	}
	return n;
}

/* In the child: the words after the first become its arguments, the first descriptor its stderr. */
static void become(char **argv, ssize_t length, const int *fds, int count)
{
	int argc = 1;

	for (int i = 0; i < count; i++) {
		dup2(fds[i], FIRST_FD + i);
		close(fds[i]);
	}
	dup2(FIRST_FD, STDERR_FILENO);
	for (char *word = words + 1; word < words + length && argv[argc]; word += strlen(word) + 1)
		argv[argc++] = word;
	argv[argc] = NULL;
	((uintptr_t *)argv)[-1] = argc;
}

static void end_of(int control, const char *pid)
{
	int status = 0;

	if (waitpid(number(pid), &status, 0) < 0)
		status = -1;
	answer(control, status, -1);
}

__attribute__((constructor)) static void serve(int argc, char **argv, char **envp)
{
	static const char name[] = "FORKS_FD=";
	int control = 0;

	(void)argc;
	for (; *envp; envp++)
		if (!strncmp(*envp, name, sizeof(name) - 1))
			control = number(*envp + sizeof(name) - 1);
	if (!control)
		return;
	/* What runs in the same namespaces must not look into the others. */
	prctl(PR_SET_DUMPABLE, 0);
	answer(control, 0, -1);
	for (;;) {
		int fds[FDS_MAX], count, pidfd;
		ssize_t length = request(control, fds, &count);
		pid_t child;

		if (words[0] == 'W') {
			end_of(control, words + 1);
			continue;
		}
		child = fork();
		if (!child) {
			close(control);
			become(argv, length, fds, count);
			return;
		}
		while (count)
			close(fds[--count]);
		pidfd = child < 0 ? -1 : syscall(SYS_pidfd_open, child, 0);
		if (pidfd < 0) {
			int why = errno;

			if (child > 0 && !kill(child, SIGKILL))
				waitpid(child, NULL, 0);
			answer(control, -why, -1);
			continue;
		}
		answer(control, child, pidfd);
		close(pidfd);
	}
}
