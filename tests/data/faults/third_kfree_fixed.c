// SPDX-License-Identifier: GPL-2.0-only
/* third_kfree.c without its bug. */
#define FIXED
#include "third_kfree.c"
