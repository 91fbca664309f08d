// SPDX-License-Identifier: GPL-2.0-only
/* A kobject that could not be added has a reference all the same, and nobody puts it. */
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

static struct kobject *object;

static void released(struct kobject *kobj)
{
	kfree(kobj);
}

static struct kobj_type type = {
	.release = released,
	.sysfs_ops = &kobj_sysfs_ops,
};

static int __init kobject_left_init(void)
{
	int err;

	object = kzalloc(sizeof(*object), GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	err = kobject_init_and_add(object, &type, kernel_kobj, "%s", "kobject_left");
#ifdef FIXED
	if (err)
		kobject_put(object);
#endif
	return err;
}

static void __exit kobject_left_exit(void)
{
	kobject_put(object);
}

module_init(kobject_left_init);
module_exit(kobject_left_exit);

MODULE_DESCRIPTION("a planted error-path bug");
MODULE_LICENSE("GPL");
