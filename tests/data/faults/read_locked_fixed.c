// SPDX-License-Identifier: GPL-2.0-only
/* read_locked.c without its bug. */
#define FIXED
#include "read_locked.c"
