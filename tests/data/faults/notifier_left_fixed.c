// SPDX-License-Identifier: GPL-2.0-only
/* notifier_left.c without its bug. */
#define FIXED
#include "notifier_left.c"
