// SPDX-License-Identifier: GPL-2.0-only
/* kobject_left.c without its bug. */
#define FIXED
#include "kobject_left.c"
