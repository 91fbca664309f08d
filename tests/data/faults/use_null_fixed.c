// SPDX-License-Identifier: GPL-2.0-only
/* use_null.c without its bug. */
#define FIXED
#include "use_null.c"
