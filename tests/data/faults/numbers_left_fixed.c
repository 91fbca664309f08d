// SPDX-License-Identifier: GPL-2.0-only
/* numbers_left.c without its bug. */
#define FIXED
#include "numbers_left.c"
