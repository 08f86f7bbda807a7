/*
 * The rows of a call of tms.ingest: one array a column, element i of each is seq first_seq + i. A row whose path is NULL is
 * one that its ledger no longer holds.
 */
#ifndef TMS_INGEST_ROWS_H
#define TMS_INGEST_ROWS_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#define TMS_INGEST_ROWS_MAX 10000

/* What claims to be older than this comes from a clock that was never set; days since 2000-01-01. */
#define TMS_EARLIEST_SANE_DAY 1

/* Columns in the order of tms.ingest's arguments. */
typedef enum TmsIngestColumnNo
{
	TMS_INGEST_CAPTURED_AT,
	TMS_INGEST_PATH,
	TMS_INGEST_IMAGE_BYTES,
	TMS_INGEST_SHA256,
	TMS_INGEST_PLATE,
	TMS_INGEST_PLATE_CLASS,
	TMS_INGEST_PLATE_COLOR,
	TMS_INGEST_DIRECTION,
	TMS_INGEST_LANE,
	TMS_INGEST_SPEED_KMH,
	TMS_INGEST_VIOLATION_CODE,
	TMS_INGEST_EVENT_ID,
	TMS_INGEST_ATTRIBUTES,
	TMS_INGEST_COLUMNS
} TmsIngestColumnNo;

typedef struct TmsIngestColumn
{
	ArrayType *array; /* as it was passed; NULL: every element is NULL */
	Datum *values;
	bool *nulls;
	bool altered; /* values or nulls are no longer those of array */
} TmsIngestColumn;

typedef struct TmsIngestRows
{
	int count;
	bool *held; /* has a path, be it a good one: the ledger still holds the row */
	TmsIngestColumn columns[TMS_INGEST_COLUMNS];
} TmsIngestRows;

/*
 * Takes the arrays from a function's arguments first_arg and following; a NULL array stands for NULL elements alone. Memory
 * is the current context's. Error 22023 naming the array for one of several dimensions, of another length than path, or
 * too long; never for what is in it.
 */
extern void tms_ingest_rows_read(FunctionCallInfo fcinfo, int first_arg, TmsIngestRows *rows);

/*
 * Brings every row under the rules of common/capture_record.h: a value that breaks one becomes NULL and goes, cut to a sane
 * length, to attributes.rejected; a time outside earliest .. latest becomes `received` and goes to attributes.claimed_at.
 */
extern void tms_ingest_rows_check(TmsIngestRows *rows, TimestampTz earliest, TimestampTz latest, TimestampTz received);

/* Type of a column's elements. */
extern Oid tms_ingest_column_type(TmsIngestColumnNo column);

/* Name of a column, in tms.ingest and in tms.capture. */
extern const char *tms_ingest_column_name(TmsIngestColumnNo column);

/*
 * A column's array of the rows picked[0 .. count - 1], ascending: the one that was passed when that is all of them,
 * unaltered. *is_null when all elements are NULL because no array was passed.
 */
extern Datum tms_ingest_column_array(const TmsIngestRows *rows, TmsIngestColumnNo column, const int *picked, int count,
									 bool *is_null);

#endif
