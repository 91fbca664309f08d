// SPDX-License-Identifier: GPL-2.0-only
/* read_leak.c without its bug. */
#define FIXED
#include "read_leak.c"
