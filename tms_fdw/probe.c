/*
 * tms.probe_devices: can front ends be reached, how fast do they answer, and how far off are their clocks?
 *
 * Each is asked GET /healthz of its cache server, which needs no signature, so that a wrong clock does not look like a
 * device that is away. Many are asked at once; one that is away delays nobody.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "tms_fdw/address.h"
#include "tms_fdw/device.h"
#include "tms_fdw/fetch.h"

#define AT_ONCE            64
#define CONNECT_TIMEOUT    2000 /* milliseconds */
#define FIRST_BYTE_TIMEOUT 4000
#define TIMEOUT            5000
#define MAX_ANSWER_BYTES   4096

PG_FUNCTION_INFO_V1(tms_probe_devices);

typedef struct Probe
{
	int32 device_id;
	bool reachable;
	int64 latency; /* microseconds; -1: no answer */
	bool has_clock_offset;
	int64 clock_offset; /* microseconds, in whole seconds */
	const char *error; /* NULL: none */
} Probe;

typedef struct Probes
{
	int n;
	Probe *probes;
} Probes;

/* Sends the probe of one device, or notes why it cannot be sent; returns whether it was sent. */
static bool send_probe(TmsFetchGroup *group, TmsDeviceCache *devices, Probe *probe)
{
	const TmsDevice *device = tms_device_get(devices, probe->device_id);
	TmsFetchRequest request = {0};
	char *url;

	probe->latency = -1;
	if (device == NULL || device->base_url == NULL)
	{
		probe->error = device == NULL ? "device is not registered" : "device has no address";
		return false;
	}
	url = psprintf("%s/healthz", device->base_url);
	request.url = url;
	request.allow_loopback = tms_url_names_loopback(device->base_url);
	request.expected_bytes = -1;
	request.max_bytes = MAX_ANSWER_BYTES;
	request.connect_timeout = CONNECT_TIMEOUT;
	request.first_byte_timeout = FIRST_BYTE_TIMEOUT;
	request.timeout = TIMEOUT;
	tms_fetch_start(group, &request, probe);
	pfree(url);
	return true;
}

/* An answer tells its time in whole seconds, so that is what the difference of the clocks is rounded to. */
static void read_clock(Probe *probe, const TmsFetch *fetch)
{
	TimestampTz asked = GetCurrentTimestamp() - fetch->elapsed / 2;
	TimestampTz answered = time_t_to_timestamptz((pg_time_t) fetch->date) + USECS_PER_SEC / 2;

	probe->has_clock_offset = fetch->date >= 0;
	if (probe->has_clock_offset)
		probe->clock_offset = (int64) rint((double) (answered - asked) / USECS_PER_SEC) * USECS_PER_SEC;
}

static void end_probe(TmsFetch *fetch)
{
	Probe *probe = fetch->owner;

	probe->reachable = fetch->outcome == TMS_FETCH_OK;
	if (fetch->status != 0)
	{
		probe->latency = fetch->elapsed;
		read_clock(probe, fetch);
	}
	if (!probe->reachable)
		probe->error = pstrdup(fetch->reason);
	tms_fetch_end(fetch);
}

/* Fills in all probes; at most AT_ONCE are under way at any time. */
static void run_probes(Probes *all)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tms probes", ALLOCSET_DEFAULT_SIZES);
	TmsDeviceCache *devices = tms_device_cache_create(context);
	TmsFetchGroup *group = tms_fetch_group_create(context);
	int n_running = 0;
	int next = 0;

	while (next < all->n || n_running > 0)
	{
		TmsFetch *fetch;

		while (next < all->n && n_running < AT_ONCE)
			n_running += send_probe(group, devices, &all->probes[next++]) ? 1 : 0;
		tms_fetch_wait(group, -1, TMS_WAIT_IMAGES);
		while ((fetch = tms_fetch_next(group)) != NULL)
		{
			end_probe(fetch);
			n_running--;
		}
	}
	MemoryContextDelete(context);
}

static Probes *make_probes(ArrayType *device_ids)
{
	Probes *all = palloc(sizeof(Probes));
	Datum *ids;
	bool *nulls;
	int i;

	deconstruct_array(device_ids, INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids, &nulls, &all->n);
	all->probes = palloc0(sizeof(Probe) * Max(all->n, 1));
	for (i = 0; i < all->n; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("device ids must not be NULL")));
		all->probes[i].device_id = DatumGetInt32(ids[i]);
	}
	return all;
}

static Datum interval_of(int64 microseconds)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

static HeapTuple probe_row(TupleDesc desc, const Probe *probe)
{
	Datum values[5] = {Int32GetDatum(probe->device_id), BoolGetDatum(probe->reachable)};
	bool nulls[5] = {false, false, probe->latency < 0, !probe->has_clock_offset, probe->error == NULL};

	if (!nulls[2])
		values[2] = interval_of(probe->latency);
	if (!nulls[3])
		values[3] = interval_of(probe->clock_offset);
	if (!nulls[4])
		values[4] = CStringGetTextDatum(probe->error);
	return heap_form_tuple(desc, values, nulls);
}

Datum tms_probe_devices(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Probes *all;
	Datum row;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext previous;
		TupleDesc desc;

		call = SRF_FIRSTCALL_INIT();
		previous = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 5)
			elog(ERROR, "tms.probe_devices does not return the row of this library");
		call->tuple_desc = BlessTupleDesc(desc);
		call->user_fctx = make_probes(PG_GETARG_ARRAYTYPE_P(0));
		run_probes(call->user_fctx);
		MemoryContextSwitchTo(previous);
	}
	call = SRF_PERCALL_SETUP();
	all = call->user_fctx;
	if (call->call_cntr >= (uint64) all->n)
		SRF_RETURN_DONE(call);
	/* SRF_RETURN_NEXT counts before it looks at its argument. */
	row = HeapTupleGetDatum(probe_row(call->tuple_desc, &all->probes[call->call_cntr]));
	SRF_RETURN_NEXT(call, row);
}
