// SPDX-License-Identifier: GPL-2.0-only
/* unchecked.c without its bug. */
#define FIXED
#include "unchecked.c"
