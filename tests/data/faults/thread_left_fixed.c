// SPDX-License-Identifier: GPL-2.0-only
/* thread_left.c without its bug. */
#define FIXED
#include "thread_left.c"
