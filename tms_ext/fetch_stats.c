/*
 * What fetching images has come to so far, per source.
 *
 * State: one row of counters per source (shared_state.h tells whose).
 * Owner of the lock: there is none. Every counter is an atomic of its own that only grows between resets, so writers never
 * wait; a reader may see a request whose end is not counted yet, but never a torn number. A reset may miss the start of a
 * request and then count its end.
 * Invariants between resets: images = sum of the histogram; requests >= images + errors (a canceled request is neither);
 * digest_failures <= errors.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "port/atomics.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "tms_ext/breaker.h"
#include "tms_ext/compat.h"
#include "tms_ext/fetch_stats.h"
#include "tms_ext/shared_state.h"

/* Latencies are counted in buckets a quarter of an octave wide: bucket b is for 2^(b/4) to 2^((b+1)/4) microseconds. The
 * view tms.stat_images_histogram knows that too. */
#define BUCKETS_PER_OCTAVE 4
#define BUCKETS            (28 * BUCKETS_PER_OCTAVE) /* the last one also for more than 268 s */

typedef enum Counter
{
	REQUESTS,
	IMAGES,
	BYTES,
	ERRORS,
	DIGEST_FAILURES,
	FAILOVERS,
	HEDGES,
	LATENCY, /* microseconds, of all images together */
	FIRST_BUCKET,
	COUNTERS = FIRST_BUCKET + BUCKETS
} Counter;

#define SHOWN_COUNTERS LATENCY /* those before it are columns of the view */

typedef struct FetchStats
{
	pg_atomic_uint64 reset_at; /* a TimestampTz */
	pg_atomic_uint64 counters[TMS_ORIGIN_COUNT][COUNTERS];
} FetchStats;

PG_FUNCTION_INFO_V1(tms_fetch_stats_read);
PG_FUNCTION_INFO_V1(tms_fetch_stats_buckets);
PG_FUNCTION_INFO_V1(tms_fetch_stats_reset);

const char *tms_origin_name(TmsOrigin origin)
{
	static const char *const names[] = {
		[TMS_ORIGIN_IMAGE_CENTER] = "image_center",
		[TMS_ORIGIN_FRONT_END] = "front_end",
	};

	return names[origin];
}

static void init_stats(void *fresh)
{
	FetchStats *stats = fresh;
	int origin;
	int i;

	pg_atomic_init_u64(&stats->reset_at, (uint64) GetCurrentTimestamp());
	for (origin = 0; origin < TMS_ORIGIN_COUNT; origin++)
		for (i = 0; i < COUNTERS; i++)
			pg_atomic_init_u64(&stats->counters[origin][i], 0);
}

static TmsSharedState stats_state = {"TmsFetchStats", sizeof(FetchStats), init_stats};

void tms_fetch_stats_init(void)
{
	tms_shared_state_announce(&stats_state);
}

static FetchStats *get_stats(void)
{
	return tms_shared_state_get(&stats_state);
}

static void add(TmsOrigin origin, int counter, int64 amount)
{
	pg_atomic_fetch_add_u64(&get_stats()->counters[origin][counter], amount);
}

static uint64 get(TmsOrigin origin, int counter)
{
	return pg_atomic_read_u64(&get_stats()->counters[origin][counter]);
}

void tms_fetch_stats_sent(TmsOrigin origin)
{
	add(origin, REQUESTS, 1);
}

void tms_fetch_stats_ended(TmsOrigin origin, TmsRequestResult result, int64 bytes, int64 elapsed)
{
	if (result == TMS_REQUEST_DELIVERED)
	{
		int bucket = elapsed < 2 ? 0 : (int) floor(log2((double) elapsed) * BUCKETS_PER_OCTAVE);

		add(origin, IMAGES, 1);
		add(origin, BYTES, bytes);
		add(origin, LATENCY, elapsed);
		add(origin, FIRST_BUCKET + Min(bucket, BUCKETS - 1), 1);
		return;
	}
	add(origin, ERRORS, 1);
	if (result == TMS_REQUEST_WRONG_DIGEST)
		add(origin, DIGEST_FAILURES, 1);
}

void tms_fetch_stats_failed_over(TmsOrigin origin)
{
	add(origin, FAILOVERS, 1);
}

void tms_fetch_stats_hedged(TmsOrigin origin)
{
	add(origin, HEDGES, 1);
}

/* The latency in microseconds that this share of the images did not exceed; exact to the width of a bucket. */
static double quantile(TmsOrigin origin, double share)
{
	double total = 0;
	double before = 0;
	double wanted;
	int i;

	for (i = 0; i < BUCKETS; i++)
		total += get(origin, FIRST_BUCKET + i);
	wanted = total * share;
	for (i = 0; i < BUCKETS - 1; i++)
	{
		double here = get(origin, FIRST_BUCKET + i);

		if (here > 0 && before + here >= wanted)
			return exp2((i + (wanted - before) / here) / BUCKETS_PER_OCTAVE);
		before += here;
	}
	return exp2((double) (BUCKETS - 1) / BUCKETS_PER_OCTAVE);
}

static Datum microseconds(double amount)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) rint(amount);
	return IntervalPGetDatum(interval);
}

/* The source of that name; an error if there is none. */
static TmsOrigin origin_by_name(const text *name)
{
	char *source = text_to_cstring(name);
	TmsOrigin origin = 0;

	while (origin < TMS_ORIGIN_COUNT && strcmp(source, tms_origin_name(origin)) != 0)
		origin++;
	if (origin == TMS_ORIGIN_COUNT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no source of images \"%s\"", source)));
	return origin;
}

/*
 * tms.stat_images_of(source): the counters of one source, in the order of enum Counter, then the breaker, latencies and the
 * reset.
 */
Datum tms_fetch_stats_read(PG_FUNCTION_ARGS)
{
	TmsOrigin origin = origin_by_name(PG_GETARG_TEXT_PP(0));
	Datum values[SHOWN_COUNTERS + 5];
	bool nulls[lengthof(values)] = {false};
	uint64 images;
	TupleDesc desc;
	int n;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "tms.stat_images_of does not return the row of this library");

	for (n = 0; n < SHOWN_COUNTERS; n++)
		values[n] = Int64GetDatum((int64) get(origin, n));
	values[n++] = CStringGetTextDatum(tms_breaker_worst(origin));
	images = get(origin, IMAGES);
	values[n++] = microseconds(images > 0 ? (double) get(origin, LATENCY) / images : 0);
	values[n++] = microseconds(quantile(origin, 0.5));
	values[n++] = microseconds(quantile(origin, 0.99));
	nulls[n - 1] = nulls[n - 2] = nulls[n - 3] = images == 0;
	values[n++] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&get_stats()->reset_at));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * tms.stat_images_buckets(source): how many images came within each bucket of the histogram, in order; bucket i (from 1) is for
 * latencies below 2^(i / 4) microseconds.
 */
Datum tms_fetch_stats_buckets(PG_FUNCTION_ARGS)
{
	TmsOrigin origin = origin_by_name(PG_GETARG_TEXT_PP(0));
	Datum counts[BUCKETS];
	int i;

	for (i = 0; i < BUCKETS; i++)
		counts[i] = Int64GetDatum((int64) get(origin, FIRST_BUCKET + i));
	PG_RETURN_ARRAYTYPE_P(construct_array(counts, BUCKETS, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum tms_fetch_stats_reset(PG_FUNCTION_ARGS)
{
	FetchStats *all = get_stats();
	int origin;
	int i;

	for (origin = 0; origin < TMS_ORIGIN_COUNT; origin++)
		for (i = 0; i < COUNTERS; i++)
			pg_atomic_write_u64(&all->counters[origin][i], 0);
	pg_atomic_write_u64(&all->reset_at, (uint64) GetCurrentTimestamp());
	PG_RETURN_VOID();
}
