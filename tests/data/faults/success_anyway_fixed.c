// SPDX-License-Identifier: GPL-2.0-only
/* success_anyway.c without its bug. */
#define FIXED
#include "success_anyway.c"
