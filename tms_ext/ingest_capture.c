/*
 * tms.capture as ingest reads and writes it.
 *
 * New rows go in with one prepared INSERT whose parameters are whole arrays. Rows that are there already are looked for only
 * when a call repeats some, by a query that is planned with its constants, so that only the days in question are locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "tms_ext/ingest_capture.h"
#include "tms_ext/ingest_statement.h"
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

/* Parameters of the INSERT: ids, device, then the columns. */
#define INSERT_PARAMS (2 + TMS_INGEST_COLUMNS)

static TmsIngestStatement insert_captures;

/* --- looking --- */

/* Looks for seqs among the captures of [first_day, end_day). */
static void stored_on_days(TmsStoredCaptures *stored, int32 ledger_no, DateADT first_day, DateADT end_day)
{
	Oid types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {
		Int64GetDatum(tms_capture_id(ledger_no, stored->seqs.from)),
		Int64GetDatum(tms_capture_id(ledger_no, stored->seqs.to)),
		TimestampTzGetDatum(tms_day_start(first_day)),
		TimestampTzGetDatum(tms_day_start(end_day)),
	};
	int result =
		SPI_execute_with_args("SELECT capture_id, path, sha256 FROM tms.capture WHERE capture_id BETWEEN $1 AND $2"
							  " AND captured_at >= $3 AND captured_at < $4",
							  lengthof(types), types, values, NULL, false, 0);
	uint64 i;

	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args returned %s", SPI_result_code_string(result));
	for (i = 0; i < SPI_processed; i++)
	{
		bool is_null;
		int64 seq = tms_capture_seq(DatumGetInt64(tms_ingest_result(i, 1, &is_null)));
		TmsStoredCapture *capture = &stored->captures[seq - stored->seqs.from];
		Datum value;

		capture->found = true;
		value = tms_ingest_result(i, 2, &is_null);
		capture->path = is_null ? NULL : DatumGetTextPP(value);
		value = tms_ingest_result(i, 3, &is_null);
		capture->sha256 = is_null ? NULL : DatumGetByteaPP(value);
	}
}

TmsStoredCaptures tms_ingest_stored(int32 ledger_no, TmsSeqRange seqs)
{
	TmsStoredCaptures stored = {seqs, palloc0(sizeof(TmsStoredCapture) * (seqs.to - seqs.from + 1))};
	DateADT *days;
	int count = tms_ingest_days(ledger_no, seqs, &days);
	TmsIdentity saved;
	int i = 0;

	tms_run_as(tms_relation_owner(tms_capture_relation()), &saved);
	while (i < count)
	{
		int first = i;

		/* Days that follow each other are one query. */
		for (i++; i < count && days[i] == days[i - 1] + 1; i++)
			;
		stored_on_days(&stored, ledger_no, days[first], days[i - 1] + 1);
	}
	tms_run_back(&saved);
	return stored;
}

const TmsStoredCapture *tms_ingest_stored_get(const TmsStoredCaptures *stored, int64 seq)
{
	const TmsStoredCapture *capture;

	if (seq < stored->seqs.from || seq > stored->seqs.to)
		return NULL;
	capture = &stored->captures[seq - stored->seqs.from];
	return capture->found ? capture : NULL;
}

/* --- inserting --- */

/* A day and the least and greatest seq captured on it. */
typedef struct DaySpan
{
	DateADT day;
	TmsSeqRange seqs;
} DaySpan;

/* The days of the picked rows; a batch is nearly always of one or two. */
static int collect_days(const TmsIngestRows *rows, const int *picked, int count, int64 first_seq, DaySpan **spans)
{
	const Datum *times = rows->columns[TMS_INGEST_CAPTURED_AT].values;
	int used = 0;
	int last = 0; /* where the row before was */
	int i;

	*spans = palloc(sizeof(DaySpan) * count);
	for (i = 0; i < count; i++)
	{
		DateADT day = tms_day_of(DatumGetTimestampTz(times[picked[i]]));
		int64 seq = first_seq + picked[i];

		if (last >= used || (*spans)[last].day != day)
			for (last = 0; last < used && (*spans)[last].day != day; last++)
				;
		if (last == used)
		{
			(*spans)[used].day = day;
			(*spans)[used++].seqs.from = seq;
		}
		(*spans)[last].seqs.to = seq;
	}
	return used;
}

/* Writes the INSERT, whose columns are those of tms.ingest. */
static void make_insert(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	StringInfoData sql;
	int i;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "INSERT INTO tms.capture (capture_id, device_id");
	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
		appendStringInfo(&sql, ", %s", tms_ingest_column_name(i));
	appendStringInfoString(&sql, ") SELECT unnest($1), $2");
	insert_captures.types[0] = get_array_type(INT8OID);
	insert_captures.types[1] = INT4OID;
	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
	{
		appendStringInfo(&sql, ", unnest($%d)", 3 + i);
		insert_captures.types[2 + i] = get_array_type(tms_ingest_column_type(i));
	}
	insert_captures.nargs = INSERT_PARAMS;
	insert_captures.sql = sql.data;
	MemoryContextSwitchTo(old);
}

static Datum ids_array(const int *picked, int count, int64 first_seq, int32 ledger_no)
{
	Datum *ids = palloc(sizeof(Datum) * count);
	int i;

	for (i = 0; i < count; i++)
		ids[i] = Int64GetDatum(tms_capture_id(ledger_no, first_seq + picked[i]));
	return PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

void tms_ingest_insert(const TmsIngestRows *rows, const int *picked, int count, int64 first_seq, int32 ledger_no,
					   int32 device_id)
{
	Datum values[INSERT_PARAMS];
	char nulls[INSERT_PARAMS];
	TmsIdentity saved;
	DaySpan *spans;
	int days = collect_days(rows, picked, count, first_seq, &spans);
	int i;

	for (i = 0; i < days; i++)
		tms_partition_ensure_day(spans[i].day);

	if (insert_captures.sql == NULL)
		make_insert();
	memset(nulls, ' ', sizeof(nulls));
	values[0] = ids_array(picked, count, first_seq, ledger_no);
	values[1] = Int32GetDatum(device_id);
	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
	{
		bool is_null;

		values[2 + i] = tms_ingest_column_array(rows, i, picked, count, &is_null);
		if (is_null)
			nulls[2 + i] = 'n';
	}
	tms_run_as(tms_relation_owner(tms_capture_relation()), &saved);
	tms_ingest_execute(&insert_captures, values, nulls);
	tms_run_back(&saved);

	for (i = 0; i < days; i++)
		tms_ingest_day_put(ledger_no, spans[i].day, spans[i].seqs);
}
