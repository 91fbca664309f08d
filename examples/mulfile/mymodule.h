/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MYMODULE_H
#define MYMODULE_H

/* print.c, called from init.c */
void mymodule_sub(void);

#endif /* MYMODULE_H */
