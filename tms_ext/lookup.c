/*
 * One capture by its bare id: first its day, then the row in that day's partition.
 *
 * Both plans are kept for the life of the backend. That of the row must be made anew with the values of every call (a custom
 * plan), because a generic one would lock all partitions before it knows which one is meant. Operators are written with
 * their schema: this may run inside a function of somebody else, under the search_path of yet another.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/date.h"

#include "common/capture_id.h"
#include "tms_ext/lookup.h"
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

/* A ledger's days overlap where clocks were set; beyond this many candidates something is very wrong. */
#define DAYS_MAX 100

static SPIPlanPtr days_plan = NULL;
static SPIPlanPtr row_plan = NULL;

static void keep_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr made;

	if (*plan != NULL)
		return;
	made = SPI_prepare_cursor(sql, nargs, types, CURSOR_OPT_CUSTOM_PLAN);
	if (made == NULL)
		elog(ERROR, "SPI_prepare returned %s for: %s", SPI_result_code_string(SPI_result), sql);
	SPI_keepplan(made);
	*plan = made;
}

static void run_plan(SPIPlanPtr plan, Datum *values, long limit)
{
	int result = SPI_execute_plan(plan, values, NULL, true, limit);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan returned %s", SPI_result_code_string(result));
}

/* The days a capture can be in, by its ledger's spans; how many. */
static int candidate_days(int64 capture_id, DateADT days[DAYS_MAX])
{
	Oid types[] = {INT4OID, INT8OID};
	Datum values[] = {Int32GetDatum(tms_capture_ledger_no(capture_id)), Int64GetDatum(tms_capture_seq(capture_id))};
	TmsIdentity saved;
	int count, i;

	tms_run_as(tms_extension_owner(), &saved);
	SPI_connect();
	keep_plan(&days_plan,
			  "SELECT day FROM tms.ledger_day WHERE ledger_no OPERATOR(pg_catalog.=) $1"
			  " AND first_seq OPERATOR(pg_catalog.<=) $2 AND last_seq OPERATOR(pg_catalog.>=) $2 ORDER BY day",
			  lengthof(types), types);
	run_plan(days_plan, values, DAYS_MAX);
	count = (int) SPI_processed;
	for (i = 0; i < count; i++)
	{
		bool is_null;

		days[i] = DatumGetDateADT(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null));
	}
	SPI_finish();
	tms_run_back(&saved);
	return count;
}

/* Copies the row that SPI found; `caller` is where its path goes. */
static void copy_row(int64 capture_id, MemoryContext caller, TmsCaptureRow *row)
{
	HeapTuple tuple = SPI_tuptable->vals[0];
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool is_null;
	Datum value;

	row->capture_id = capture_id;
	row->captured_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 1, &is_null));
	row->device_id = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &is_null));
	value = SPI_getbinval(tuple, desc, 3, &is_null);
	row->path = is_null ? NULL : MemoryContextStrdup(caller, TextDatumGetCString(value));
	value = SPI_getbinval(tuple, desc, 4, &is_null);
	row->image_bytes = is_null ? -1 : DatumGetInt32(value);
	value = SPI_getbinval(tuple, desc, 5, &is_null);
	row->has_sha256 = false;
	if (!is_null)
	{
		bytea *digest = DatumGetByteaPP(value);

		row->has_sha256 = VARSIZE_ANY_EXHDR(digest) == TMS_SHA256_SIZE;
		if (row->has_sha256)
			memcpy(row->sha256, VARDATA_ANY(digest), TMS_SHA256_SIZE);
	}
}

static bool find_in_day(int64 capture_id, DateADT day, TmsCaptureRow *row)
{
	Oid types[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {Int64GetDatum(capture_id), TimestampTzGetDatum(tms_day_start(day)),
					  TimestampTzGetDatum(tms_day_start(day + 1))};
	MemoryContext caller = CurrentMemoryContext;
	bool found;

	SPI_connect();
	keep_plan(&row_plan,
			  "SELECT captured_at, device_id, path::pg_catalog.text, image_bytes, sha256 FROM tms.capture"
			  " WHERE capture_id OPERATOR(pg_catalog.=) $1 AND captured_at OPERATOR(pg_catalog.>=) $2"
			  " AND captured_at OPERATOR(pg_catalog.<) $3",
			  lengthof(types), types);
	run_plan(row_plan, values, 1);
	found = SPI_processed > 0;
	if (found)
		copy_row(capture_id, caller, row);
	SPI_finish();
	return found;
}

bool tms_capture_lookup(int64 capture_id, TmsCaptureRow *row)
{
	DateADT days[DAYS_MAX];
	int count, i;

	(void) tms_capture_relation();
	count = candidate_days(capture_id, days);
	for (i = 0; i < count; i++)
		if (find_in_day(capture_id, days[i], row))
			return true;
	return false;
}
