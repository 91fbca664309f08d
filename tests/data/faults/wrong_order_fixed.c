// SPDX-License-Identifier: GPL-2.0-only
/* wrong_order.c without its bug. */
#define FIXED
#include "wrong_order.c"
