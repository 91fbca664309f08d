// SPDX-License-Identifier: GPL-2.0-only
/* free_error.c without its bug. */
#define FIXED
#include "free_error.c"
