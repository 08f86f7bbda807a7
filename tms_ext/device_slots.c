/*
 * Slots of front ends.
 *
 * State: a table of the front ends that are being asked, each with the leases of its slots: until when each is taken. A
 * lease ends by itself, so that no crash, and no session that pauses in the middle of a cursor, keeps a front end from others
 * for longer than one request may last. A front end may stand in any place of the row that its hash gives; when all of
 * them are busy with other front ends, its requests pass uncounted rather than not at all.
 * Owner of the lock: the state's own (shared_state.h), held for one call.
 * Invariant: a lease is changed only by its taker, or by the next one after it has run out; so the value tells whose it is.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "tms_ext/device_slots.h"
#include "tms_ext/shared_state.h"

#define ROWS          128
#define PLACES_IN_ROW 8
#define UNCOUNTED     (-1)

typedef struct Place
{
	uint64 hash; /* of the front end that stood here last */
	int64 leases[TMS_DEVICE_SLOTS_MAX]; /* tms_shared_clock at which each ends */
} Place;

typedef struct Table
{
	Place places[ROWS * PLACES_IN_ROW];
} Table;

static TmsSharedState table_state = {"TmsDeviceSlots", sizeof(Table), NULL};

void tms_device_slots_init(void)
{
	tms_shared_state_announce(&table_state);
}

static int slots_taken(const Place *place, int64 now)
{
	int taken = 0;
	int i;

	for (i = 0; i < TMS_DEVICE_SLOTS_MAX; i++)
		taken += place->leases[i] > now ? 1 : 0;
	return taken;
}

/* The front end's place, or one that nobody needs now, made its own; UNCOUNTED when there is none. */
static int find_place(Table *table, uint64 hash, int64 now)
{
	int first = (int) (hash % ROWS) * PLACES_IN_ROW;
	int unneeded = UNCOUNTED;
	int i;

	for (i = first; i < first + PLACES_IN_ROW; i++)
	{
		if (table->places[i].hash == hash)
			return i;
		if (unneeded == UNCOUNTED && slots_taken(&table->places[i], now) == 0)
			unneeded = i;
	}
	if (unneeded != UNCOUNTED)
	{
		memset(&table->places[unneeded], 0, sizeof(Place));
		table->places[unneeded].hash = hash;
	}
	return unneeded;
}

/* Takes the first slot that is free. */
static void take_free_slot(Place *place, int64 now, TmsDeviceSlot *slot)
{
	slot->number = 0;
	while (place->leases[slot->number] > now)
		slot->number++;
	place->leases[slot->number] = slot->lease;
}

bool tms_device_slot_take(const char *endpoint, int per_device_concurrency, int limit, TmsDeviceSlot *slot)
{
	int64 now = tms_shared_clock();
	int most = Min(per_device_concurrency * TMS_DEVICE_SLOT_FACTOR, TMS_DEVICE_SLOTS_MAX);
	uint64 hash = hash_bytes_extended((const unsigned char *) endpoint, strlen(endpoint), 0);
	Table *table = tms_shared_state_lock(&table_state, LW_EXCLUSIVE);
	bool free = true;

	slot->lease = now + limit * INT64CONST(1000);
	slot->place = find_place(table, hash, now);
	if (slot->place != UNCOUNTED)
	{
		free = slots_taken(&table->places[slot->place], now) < most;
		if (free)
			take_free_slot(&table->places[slot->place], now, slot);
	}
	tms_shared_state_unlock(&table_state);
	if (!free)
		slot->lease = 0;
	return free;
}

void tms_device_slot_give_back(TmsDeviceSlot *slot)
{
	if (slot->lease == 0)
		return;
	if (slot->place != UNCOUNTED)
	{
		Table *table = tms_shared_state_lock(&table_state, LW_EXCLUSIVE);
		int64 *lease = &table->places[slot->place].leases[slot->number];

		if (*lease == slot->lease)
			*lease = 0;
		tms_shared_state_unlock(&table_state);
	}
	slot->lease = 0;
}
