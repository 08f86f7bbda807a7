/*
 * How many requests one front end gets at once, from all sessions together: a roadside unit has a thin line and a small
 * computer, and an outage of the image center sends everybody to it.
 *
 * A request takes one of the front end's slots and gives it back when it has ended. Cluster-wide when the library is
 * preloaded, else over the scans and calls of this session.
 */
#ifndef TMS_DEVICE_SLOTS_H
#define TMS_DEVICE_SLOTS_H

#include "postgres.h"

#define TMS_DEVICE_SLOT_FACTOR 2 /* slots of a front end, in terms of a server's per_device_concurrency */
#define TMS_DEVICE_SLOTS_MAX   32 /* but no more than this */

/* A slot that is held; `lease` 0: none is. */
typedef struct TmsDeviceSlot
{
	int place;
	int number;
	int64 lease;
} TmsDeviceSlot;

/* Called once by _PG_init. */
extern void tms_device_slots_init(void);

/*
 * Takes a slot of a front end for a request that lasts `limit` milliseconds at most; false when none is free. After that time
 * the slot is free again even if nobody gave it back. Never waits.
 */
extern bool tms_device_slot_take(const char *endpoint, int per_device_concurrency, int limit, TmsDeviceSlot *slot);

/* Gives a slot back, if one is held. Raises no error. */
extern void tms_device_slot_give_back(TmsDeviceSlot *slot);

#endif
