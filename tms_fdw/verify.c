/*
 * tms.verify_images and tms.missing_images: where the images of a span of time are, by asking for each of them.
 *
 * The captures are read through a cursor, some hundreds at a time, and checked while more are read; memory is bounded by
 * those and by one line of counts for every device and hour. Nothing is written.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "tms_ext/compat.h"
#include "tms_fdw/image_check.h"
#include "tms_fdw/option.h"
#include "tms_fdw/poller.h"

#define READ_AT_ONCE      500
#define PROGRESS_INTERVAL INT64CONST(5000000) /* microseconds from one notice to the next */
#define SAMPLE_STEPS      INT64CONST(2147483648)

PG_FUNCTION_INFO_V1(tms_verify_images);
PG_FUNCTION_INFO_V1(tms_missing_images);

/* Which captures. */
typedef struct Span
{
	TimestampTz since;
	TimestampTz until;
	float4 sample; /* 0 to 1, by a hash of capture_id */
	text *device; /* its code; NULL: all */
} Span;

typedef struct HourKey
{
	TimestampTz hour;
	int64 device_id;
} HourKey;

/* What was found of one device's hour. */
typedef struct Hour
{
	HourKey key;
	const char *device; /* its code; or NULL */
	int64 found[TMS_VERDICT_COUNT];
} Hour;

/* One call of either function. */
typedef struct Verification
{
	Portal captures;
	bool ended; /* all captures were read */
	TmsImageChecks *checks;
	HTAB *hours; /* of tms.verify_images */
	int64 found[TMS_VERDICT_COUNT];
	int64 tell_at; /* when progress is told next */
	Tuplestorestate *store;
	TupleDesc desc;
} Verification;

/* --- captures --- */

static int32 find_device(const text *code)
{
	Oid type = TEXTOID;
	Datum value = PointerGetDatum(code);
	bool is_null;

	if (SPI_execute_with_args("SELECT device_id FROM tms.device WHERE code = $1", 1, &type, &value, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no device \"%s\"", text_to_cstring(code)),
						errhint("SELECT code FROM tms.device;")));
	return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null));
}

/* Opens the cursor, as the current user; SPI is connected. */
static Portal open_captures(const Span *span)
{
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT4OID};
	int64 steps = (int64) ceil((double) span->sample * SAMPLE_STEPS);
	int32 device_id = span->device != NULL ? find_device(span->device) : 0;
	Datum values[] = {TimestampTzGetDatum(span->since), TimestampTzGetDatum(span->until), Int64GetDatum(steps),
					  Int32GetDatum(device_id)};
	char *query = psprintf("SELECT capture_id, device_id, path::text, image_bytes, sha256, captured_at FROM tms.capture"
						   " WHERE captured_at >= $1 AND captured_at < $2%s%s",
						   steps < SAMPLE_STEPS ? " AND (hashint8extended(capture_id, 0) & 2147483647) < $3" : "",
						   span->device != NULL ? " AND device_id = $4" : "");

	return SPI_cursor_open_with_args(NULL, query, lengthof(types), types, values, NULL, true, CURSOR_OPT_NO_SCROLL);
}

static void submit_row(TmsImageChecks *checks, HeapTuple row, TupleDesc desc)
{
	TmsImageRequest request = {0};
	bool is_null;
	Datum value;
	char *path = NULL;

	request.capture_id = DatumGetInt64(SPI_getbinval(row, desc, 1, &is_null));
	request.device_id = DatumGetInt32(SPI_getbinval(row, desc, 2, &is_null));
	value = SPI_getbinval(row, desc, 3, &is_null);
	if (!is_null)
		request.path = path = TextDatumGetCString(value);
	value = SPI_getbinval(row, desc, 4, &is_null);
	request.image_bytes = is_null ? -1 : DatumGetInt32(value);
	value = SPI_getbinval(row, desc, 5, &is_null);
	if (!is_null)
	{
		bytea *digest = DatumGetByteaPP(value);

		request.has_sha256 = VARSIZE_ANY_EXHDR(digest) == sizeof(request.sha256);
		if (request.has_sha256)
			memcpy(request.sha256, VARDATA_ANY(digest), sizeof(request.sha256));
	}
	tms_image_check_submit(checks, &request, DatumGetTimestampTz(SPI_getbinval(row, desc, 6, &is_null)));
	if (path != NULL)
		pfree(path);
}

/* Reads on when few captures are left to check. */
static void read_captures(Verification *verification)
{
	SPITupleTable *rows;
	uint64 n_rows;
	uint64 i;

	if (verification->ended || tms_image_checks_pending(verification->checks) >= READ_AT_ONCE)
		return;
	SPI_cursor_fetch(verification->captures, true, READ_AT_ONCE);
	n_rows = SPI_processed;
	rows = SPI_tuptable;
	for (i = 0; i < n_rows; i++)
		submit_row(verification->checks, rows->vals[i], rows->tupdesc);
	SPI_freetuptable(rows);
	verification->ended = n_rows < READ_AT_ONCE;
}

/* --- results --- */

static void count_hour(Verification *verification, const TmsImageCheck *check)
{
	HourKey key = {0};
	bool found;
	Hour *hour;

	key.hour = check->captured_at - (check->captured_at % USECS_PER_HOUR + USECS_PER_HOUR) % USECS_PER_HOUR;
	key.device_id = check->request.device_id;
	hour = hash_search(verification->hours, &key, HASH_ENTER, &found);
	if (!found)
	{
		hour->device = tms_image_checks_device(verification->checks, check->request.device_id);
		memset(hour->found, 0, sizeof(hour->found));
	}
	hour->found[check->verdict]++;
}

static void put_missing(Verification *verification, const TmsImageCheck *check)
{
	const char *device = tms_image_checks_device(verification->checks, check->request.device_id);
	Datum values[6] = {Int64GetDatum(check->request.capture_id), (Datum) 0, TimestampTzGetDatum(check->captured_at)};
	bool nulls[6] = {false, device == NULL, false, check->request.path == NULL};
	int i;

	if (check->verdict == TMS_VERDICT_IMAGE_CENTER)
		return;
	if (device != NULL)
		values[1] = CStringGetTextDatum(device);
	if (check->request.path != NULL)
		values[3] = CStringGetTextDatum(check->request.path);
	values[4] = CStringGetTextDatum(tms_verdict_name(check->verdict));
	values[5] = CStringGetTextDatum(check->reason);
	tuplestore_putvalues(verification->store, verification->desc, values, nulls);
	for (i = 0; i < lengthof(values); i++)
		if (TupleDescAttr(verification->desc, i)->atttypid == TEXTOID && !nulls[i])
			pfree(DatumGetPointer(values[i]));
}

static void tell_progress(Verification *verification)
{
	const int64 *found = verification->found;
	int64 all = 0;
	int i;

	if (tms_poller_clock() < verification->tell_at)
		return;
	for (i = 0; i < TMS_VERDICT_COUNT; i++)
		all += found[i];
	ereport(NOTICE, (errmsg(INT64_FORMAT " captures checked so far: " INT64_FORMAT " in the image center, " INT64_FORMAT
										 " only in front ends, " INT64_FORMAT " nowhere, " INT64_FORMAT
										 " with wrong bytes, " INT64_FORMAT " unknown",
							all, found[TMS_VERDICT_IMAGE_CENTER], found[TMS_VERDICT_FRONT_END],
							found[TMS_VERDICT_NOWHERE], found[TMS_VERDICT_WRONG_BYTES], found[TMS_VERDICT_UNKNOWN])));
	verification->tell_at = tms_poller_clock() + PROGRESS_INTERVAL;
}

static int compare_hours(const void *a, const void *b)
{
	const Hour *one = *(Hour *const *) a;
	const Hour *other = *(Hour *const *) b;
	int order = strcmp(one->device != NULL ? one->device : "", other->device != NULL ? other->device : "");

	if (order != 0)
		return order;
	return one->key.hour < other->key.hour ? -1 : one->key.hour > other->key.hour ? 1 : 0;
}

static void put_hour(Verification *verification, const Hour *hour)
{
	Datum values[3 + TMS_VERDICT_COUNT] = {(Datum) 0, TimestampTzGetDatum(hour->key.hour)};
	bool nulls[3 + TMS_VERDICT_COUNT] = {hour->device == NULL};
	int64 captures = 0;
	int i;

	if (hour->device != NULL)
		values[0] = CStringGetTextDatum(hour->device);
	for (i = 0; i < TMS_VERDICT_COUNT; i++)
	{
		captures += hour->found[i];
		values[3 + i] = Int64GetDatum(hour->found[i]);
	}
	values[2] = Int64GetDatum(captures);
	tuplestore_putvalues(verification->store, verification->desc, values, nulls);
}

static void put_hours(Verification *verification)
{
	long n = hash_get_num_entries(verification->hours);
	Hour **sorted = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(Hour *));
	HASH_SEQ_STATUS scan;
	Hour *hour;
	long i = 0;

	hash_seq_init(&scan, verification->hours);
	while ((hour = hash_seq_search(&scan)) != NULL)
		sorted[i++] = hour;
	qsort(sorted, n, sizeof(Hour *), compare_hours);
	for (i = 0; i < n; i++)
		put_hour(verification, sorted[i]);
	pfree(sorted);
}

/* --- the call --- */

/* Checks all captures of the span; SPI is connected meanwhile. */
static void verify(Verification *verification, const Span *span)
{
	SPI_connect();
	verification->captures = open_captures(span);
	verification->tell_at = tms_poller_clock() + PROGRESS_INTERVAL;
	for (;;)
	{
		TmsImageCheck *check;

		CHECK_FOR_INTERRUPTS();
		read_captures(verification);
		check = tms_image_check_next(verification->checks, verification->tell_at);
		if (check != NULL)
		{
			verification->found[check->verdict]++;
			if (verification->hours != NULL)
				count_hour(verification, check);
			else
				put_missing(verification, check);
			tms_image_check_free(check);
		}
		else if (verification->ended && tms_image_checks_pending(verification->checks) == 0)
			break;
		tell_progress(verification);
	}
	SPI_cursor_close(verification->captures);
	if (verification->hours != NULL)
		put_hours(verification);
	SPI_finish();
}

/* Prepares the caller's set of rows with so many columns. */
static void begin_result(FunctionCallInfo fcinfo, Verification *verification, int n_columns)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext previous;
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != n_columns)
		elog(ERROR, "the function does not return the row of this library");
	if (result == NULL || !IsA(result, ReturnSetInfo) || !(result->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("set-valued function called where no set fits")));
	previous = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	verification->desc = CreateTupleDescCopy(desc);
	verification->store = tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
	result->returnMode = SFRM_Materialize;
	result->setResult = verification->store;
	result->setDesc = verification->desc;
	MemoryContextSwitchTo(previous);
}

static TmsFetchWanted read_method(const text *method)
{
	const char *name = text_to_cstring(method);

	if (pg_strcasecmp(name, "get") == 0)
		return TMS_WANTED_CHECK;
	if (pg_strcasecmp(name, "head") == 0)
		return TMS_WANTED_HEAD;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid method \"%s\"", name),
					errhint("GET reads every image and compares its digest; HEAD asks only for its size.")));
}

static void check_span(const Span *span)
{
	if (span->since >= span->until)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("since must be before until")));
	if (!(span->sample > 0 && span->sample <= 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("sample must be greater than 0 and at most 1"),
						errhint("0.01 checks one capture of a hundred, the same ones each time.")));
}

/* Runs a call; the context of the checks ends every request, also by an error. */
static void run(FunctionCallInfo fcinfo, Verification *verification, const Span *span, text *server, text *method)
{
	TmsServerOptions *options = tms_server_options_by_name(text_to_cstring(server));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tms verification", ALLOCSET_DEFAULT_SIZES);

	check_span(span);
	verification->checks = tms_image_checks_create(context, options, read_method(method));
	verify(verification, span);
	MemoryContextDelete(context);
}

/* tms.verify_images(since, until, sample, server, method); strict */
Datum tms_verify_images(PG_FUNCTION_ARGS)
{
	Span span = {PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_FLOAT4(2), NULL};
	Verification verification = {0};
	HASHCTL control = {0};

	begin_result(fcinfo, &verification, 3 + TMS_VERDICT_COUNT);
	control.hcxt = CurrentMemoryContext;
	control.keysize = sizeof(HourKey);
	control.entrysize = sizeof(Hour);
	verification.hours = hash_create("tms hours", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	run(fcinfo, &verification, &span, PG_GETARG_TEXT_PP(3), PG_GETARG_TEXT_PP(4));
	return (Datum) 0;
}

/* tms.missing_images(since, until, device, server, method); of these only device may be NULL */
Datum tms_missing_images(PG_FUNCTION_ARGS)
{
	Span span = {.sample = 1};
	Verification verification = {0};

	begin_result(fcinfo, &verification, 6);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3) || PG_ARGISNULL(4))
		return (Datum) 0;
	span.since = PG_GETARG_TIMESTAMPTZ(0);
	span.until = PG_GETARG_TIMESTAMPTZ(1);
	span.device = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	run(fcinfo, &verification, &span, PG_GETARG_TEXT_PP(3), PG_GETARG_TEXT_PP(4));
	return (Datum) 0;
}
