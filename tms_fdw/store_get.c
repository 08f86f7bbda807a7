/*
 * Objects of an image center that are no images; see store_get.h.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "tms_fdw/poller.h"
#include "tms_fdw/store_get.h"

#define TRIES       5
#define FIRST_PAUSE INT64CONST(1000000) /* microseconds; doubled from try to try */

/* Will it pass by itself? */
static bool may_pass(const TmsFetch *fetch)
{
	switch (fetch->outcome)
	{
		case TMS_FETCH_UNREACHABLE:
		case TMS_FETCH_TIMED_OUT:
		case TMS_FETCH_BROKEN:
			return true;
		case TMS_FETCH_STATUS:
			return fetch->status >= 500 || fetch->status == 408 || fetch->status == 429;
		default:
			return false;
	}
}

static void take_result(TmsStoreGet *get, TmsFetch *fetch, MemoryContext results)
{
	MemoryContext previous = MemoryContextSwitchTo(results);

	if (get->problem != NULL)
		pfree(get->problem);
	get->problem = NULL;
	get->is_away = may_pass(fetch);
	get->is_absent = fetch->outcome == TMS_FETCH_STATUS && fetch->status == 404;
	if (fetch->outcome == TMS_FETCH_OK)
		get->body = DatumGetByteaPCopy(PointerGetDatum(fetch->body));
	else
		get->problem = pstrdup(fetch->reason);
	MemoryContextSwitchTo(previous);
	tms_fetch_end(fetch);
}

/* Asks once for all that were not asked yet, or whose store was away. */
static void ask_all(TmsFetchGroup *group, int at_once, TmsStoreGet *gets, int count, MemoryContext results)
{
	int running = 0;
	int next = 0;

	while (next < count || running > 0)
	{
		TmsFetch *fetch;

		for (; next < count && running < at_once; next++)
			if (gets[next].is_away)
			{
				tms_fetch_start(group, &gets[next].request, &gets[next]);
				running++;
			}
		tms_fetch_wait(group, -1, TMS_WAIT_IMAGES);
		while ((fetch = tms_fetch_next(group)) != NULL)
		{
			take_result(fetch->owner, fetch, results);
			running--;
		}
	}
}

static bool any_away(const TmsStoreGet *gets, int count)
{
	int i;

	for (i = 0; i < count; i++)
		if (gets[i].is_away)
			return true;
	return false;
}

void tms_store_get(const TmsServerOptions *options, TmsStoreGet *gets, int count, int64 max_bytes)
{
	MemoryContext results = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(results, "tms store objects", ALLOCSET_DEFAULT_SIZES);
	TmsFetchGroup *group = tms_fetch_group_create(context);
	int64 pause = FIRST_PAUSE;
	int tries;
	int i;

	for (i = 0; i < count; i++)
	{
		TmsFetchRequest *request = &gets[i].request;

		request->ca_file = options->ca_file;
		request->expected_bytes = -1;
		request->max_bytes = max_bytes;
		request->connect_timeout = options->connect_timeout;
		request->first_byte_timeout = Max(options->first_byte_timeout, options->timeout);
		request->timeout = options->timeout;
		gets[i].is_away = request->url != NULL;
	}
	for (tries = 0; tries < TRIES && any_away(gets, count); tries++)
	{
		if (tries > 0)
		{
			tms_fetch_wait(group, tms_poller_clock() + pause, TMS_WAIT_IMAGES);
			pause *= 2;
		}
		ask_all(group, options->concurrency, gets, count, results);
	}
	MemoryContextDelete(context);
}
