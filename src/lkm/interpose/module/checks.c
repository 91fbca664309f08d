// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether what was taken is still there, where the kernel may have taken it away by itself. The memory of such
 * an object may have been freed meanwhile, so it is read as if it could fault.
 */
#include <linux/device.h>
#include <linux/hrtimer.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

#include "interpose.h"

#define copy_object(to, address) \
	(!copy_from_kernel_nofault(&(to), (void *)(unsigned long)(address), sizeof(to)))

static bool timer_waits(u64 address)
{
	struct timer_list timer;

	return copy_object(timer, address) && timer_pending(&timer) &&
	       lkm_within((unsigned long)timer.function);
}

static bool hrtimer_waits(u64 address)
{
	struct hrtimer timer;

	if (!copy_object(timer, address))
		return false;
#ifdef HRTIMER_STATE_ENQUEUED
	return timer.state & HRTIMER_STATE_ENQUEUED;
#else
	return timer.is_queued;
#endif
}

static bool work_waits(u64 address)
{
	struct work_struct work;

	return copy_object(work, address) && work_pending(&work) &&
	       lkm_within((unsigned long)work.func);
}

static bool delayed_work_waits(u64 address)
{
	struct delayed_work work;

	return copy_object(work, address) && work_pending(&work.work) &&
	       lkm_within((unsigned long)work.work.func);
}

static bool netdev_registered(u64 address)
{
	struct net_device *dev;
	bool found = false;

	rcu_read_lock();
	for_each_netdev_rcu(&init_net, dev)
		found |= (unsigned long)dev == address;
	rcu_read_unlock();
	return found;
}

static bool device_in_sysfs(u64 address)
{
	struct kobject kobj;

	return copy_object(kobj, (unsigned long)&((struct device *)(unsigned long)address)->kobj) &&
	       kobj.state_in_sysfs;
}

static bool mapped(u64 address)
{
	void *p = (void *)(unsigned long)address;

	return !is_vmalloc_addr(p) || vmalloc_to_page(p);
}

static bool mutex_held(u64 address)
{
	return lkm_within(address) && mutex_is_locked((struct mutex *)(unsigned long)address);
}

bool lkm_is_gone(const struct lkm_object *object)
{
	switch (object->rule->check) {
	case CHECK_VMALLOC:
		return !mapped(object->a);
	case CHECK_TIMER:
		return !timer_waits(object->a);
	case CHECK_HRTIMER:
		return !hrtimer_waits(object->a);
	case CHECK_WORK:
		return !work_waits(object->a);
	case CHECK_DELAYED_WORK:
		return !delayed_work_waits(object->a);
	case CHECK_NETDEV:
		return !netdev_registered(object->a);
	case CHECK_DEVICE:
		return !device_in_sysfs(object->a);
	case CHECK_MUTEX:
		return !mutex_held(object->a);
	case CHECK_LOCK:
		return !lkm_within(object->a);
	default:
		return false;
	}
}

/* What runs module code by itself. Whether it was stopped is seen when exit ends: later it has run, or crashed. */
bool lkm_fires(const struct lkm_object *object)
{
	return object->rule->check >= CHECK_TIMER && object->rule->check <= CHECK_DELAYED_WORK;
}
