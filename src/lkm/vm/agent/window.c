// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the host sees too: that of a virtio-pmem device for which no driver is loaded. Its address comes
 * on the command line, as `lkm_window=SIZE@ADDRESS`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

unsigned char *window;
size_t window_len;

static void map_window(off_t address, size_t len)
{
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC | O_SYNC);
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, address);
	close(fd);
	if (at == MAP_FAILED)
		return;
	window = at;
	window_len = len;
}

/* A kernel that has no /dev/mem does without; the host then sends everything through the port. */
void window_open(void)
{
	unsigned long long address, len;
	char line[4096], *word;
	FILE *file = fopen("/proc/cmdline", "re");

	if (!file)
		return;
	if (fgets(line, sizeof(line), file) && (word = strstr(line, "lkm_window=")) &&
	    sscanf(word, "lkm_window=%llu@%llu", &len, &address) == 2)
		map_window(address, len);
	fclose(file);
}
