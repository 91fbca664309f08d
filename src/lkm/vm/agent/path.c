// SPDX-License-Identifier: GPL-2.0-only
/* What is done to names in the file system, one system call a request, as pathlib has it. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

enum { PATH_MKDIR, PATH_UNLINK, PATH_RMDIR, PATH_RENAME, PATH_CHMOD, PATH_SYMLINK };

/* Payload: u32 whether a link itself is meant, path\0. */
static int serve_stat(struct session *s)
{
	const char *path = (char *)s->payload + sizeof(uint32_t);
	uint32_t itself;
	struct stat st;

	if (s->req.len < sizeof(itself) + 2)
		return session_end(s, EPROTO, NULL, 0);
	memcpy(&itself, s->payload, sizeof(itself));
	if (itself ? lstat(path, &st) : stat(path, &st))
		return session_end(s, errno, NULL, 0);
	int64_t out[] = {
		st.st_mode, st.st_ino, st.st_dev, st.st_nlink, st.st_uid, st.st_gid, st.st_size,
		st.st_atim.tv_sec * 1000000000ll + st.st_atim.tv_nsec,
		st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec,
		st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec,
		st.st_rdev,
	};
	return session_end(s, 0, out, sizeof(out));
}

static int serve_readlink(struct session *s)
{
	static char target[PATH_MAX];
	ssize_t n = readlink((char *)s->payload, target, sizeof(target));

	return n < 0 ? session_end(s, errno, NULL, 0) : session_end(s, 0, target, n);
}

/* Payload: u32 what, u32 mode, path\0, for two of them a second path\0. */
static int serve_change(struct session *s)
{
	const char *path = (char *)s->payload + 2 * sizeof(uint32_t), *second = "";
	uint32_t head[2];
	int result;

	if (s->req.len < sizeof(head) + 2)
		return session_end(s, EPROTO, NULL, 0);
	memcpy(head, s->payload, sizeof(head));
	if (strlen(path) + 1 < s->req.len - sizeof(head))
		second = path + strlen(path) + 1;
	switch (head[0]) {
	case PATH_MKDIR:
		result = mkdir(path, head[1]);
		break;
	case PATH_UNLINK:
		result = unlink(path);
		break;
	case PATH_RMDIR:
		result = rmdir(path);
		break;
	case PATH_RENAME:
		result = rename(path, second);
		break;
	case PATH_CHMOD:
		result = chmod(path, head[1]);
		break;
	case PATH_SYMLINK:
		result = symlink(second, path);
		break;
	default:
		return session_end(s, ENOSYS, NULL, 0);
	}
	return session_end(s, result ? errno : 0, NULL, 0);
}

int path_answer(struct session *s)
{
	switch (s->req.op) {
	case OP_STAT:
		return serve_stat(s);
	case OP_READLINK:
		return serve_readlink(s);
	default:
		return serve_change(s);
	}
}
