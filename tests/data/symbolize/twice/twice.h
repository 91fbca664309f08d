/* SPDX-License-Identifier: GPL-2.0-only */
extern int helped;
int other(void);
