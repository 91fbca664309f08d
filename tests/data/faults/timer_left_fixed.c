// SPDX-License-Identifier: GPL-2.0-only
/* timer_left.c without its bug. */
#define FIXED
#include "timer_left.c"
