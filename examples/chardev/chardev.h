/* SPDX-License-Identifier: GPL-2.0-only */
/* What /dev/chardev understands; for the module and for programs. */
#ifndef CHARDEV_H
#define CHARDEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CHARDEV_MAGIC 'l'

/* How many bytes the device takes now, at most what it was loaded with. */
#define CHARDEV_GET_SIZE _IOR(CHARDEV_MAGIC, 1, __u64)
#define CHARDEV_SET_SIZE _IOW(CHARDEV_MAGIC, 2, __u64)
/* Forget what was written. */
#define CHARDEV_RESET _IO(CHARDEV_MAGIC, 3)

#endif /* CHARDEV_H */
