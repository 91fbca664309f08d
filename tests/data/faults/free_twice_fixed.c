// SPDX-License-Identifier: GPL-2.0-only
/* free_twice.c without its bug. */
#define FIXED
#include "free_twice.c"
