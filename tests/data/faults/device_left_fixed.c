// SPDX-License-Identifier: GPL-2.0-only
/* device_left.c without its bug. */
#define FIXED
#include "device_left.c"
