// SPDX-License-Identifier: GPL-2.0-only
/* wrong_partner.c without its bug. */
#define FIXED
#include "wrong_partner.c"
