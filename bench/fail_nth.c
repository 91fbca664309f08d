// SPDX-License-Identifier: GPL-2.0-only
/*
 * fail_nth STAGE N FILE.ko NAME [PATH]: load a module, read PATH, unload it; in STAGE (init, use, exit) the N-th
 * call that fault injection can fail fails. Says what each stage gave, and "left K": 0 where a call has failed.
 *
 * It makes the system calls itself: a child of the process that writes to fail-nth begins with 0 (copy_process(),
 * kernel/fork.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int control;
static const char *stage;
static const char *number;

static void begin(const char *now)
{
	if (!strcmp(now, stage) && pwrite(control, number, strlen(number), 0) < 0)
		perror("fail-nth");
}

static void end(const char *now, long result)
{
	int error = errno;
	char left[32] = "";

	if (!strcmp(now, stage)) {
		if (pread(control, left, sizeof(left) - 1, 0) < 0 || pwrite(control, "0", 1, 0) < 0)
			perror("fail-nth");
		printf("left %s", left);
	}
	printf("%s %d\n", now, result < 0 ? error : 0);
}

static long read_all(const char *path)
{
	char text[4096];
	int file = open(path, O_RDONLY);
	long n;

	if (file < 0)
		return -1;
	do
		n = read(file, text, sizeof(text));
	while (n > 0);
	return n;
}

int main(int argc, char **argv)
{
	struct stat status;
	char *image;
	long result;
	int file;

	if (argc < 5)
		return 2;
	stage = argv[1];
	number = argv[2];
	control = open("/proc/self/fail-nth", O_RDWR);
	file = open(argv[3], O_RDONLY);
	if (control < 0 || file < 0 || fstat(file, &status))
		return 1;
	image = malloc(status.st_size);
	if (!image || read(file, image, status.st_size) != status.st_size)
		return 1;
	begin("init");
	result = syscall(SYS_init_module, image, status.st_size, "");
	end("init", result);
	if (result)
		return 0;
	if (argc > 5) {
		begin("use");
		result = read_all(argv[5]);
		end("use", result);
	}
	begin("exit");
	result = syscall(SYS_delete_module, argv[4], O_NONBLOCK);
	end("exit", result);
	return 0;
}
