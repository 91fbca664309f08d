// SPDX-License-Identifier: GPL-2.0-only
/* exit_leak.c without its bug. */
#define FIXED
#include "exit_leak.c"
