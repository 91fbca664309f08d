// SPDX-License-Identifier: GPL-2.0-only
/* lock_kept.c without its bug. */
#define FIXED
#include "lock_kept.c"
