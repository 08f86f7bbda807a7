/*
 * Which captures are still to be written to manifests. Triggers keep the table manifest_due; here it is read and emptied.
 */
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "worker.h"

#define WALK_PIECE 5000 /* rows looked at in one job */
#define WALK_META  "manifest_walk"

/* Fills in how many they are, and how far. The read lock is held. */
static TmsStatus read_span(Ledger *ledger, LedgerManifest *place)
{
	LedgerDb *db = &ledger->read;
	sqlite3_stmt *row = ledger_db_bind(db, SQL_MANIFEST_SPAN, "ii", place->hour, place->ledger_no);
	TmsStatus status = ledger_db_step(db, row);
	int64_t first = 0, last = 0, waits = 0;

	if (status == TMS_OK)
	{
		place->count = sqlite3_column_int64(row, 0);
		place->first_at = sqlite3_column_int64(row, 1);
		place->last_at = sqlite3_column_int64(row, 2);
		first = sqlite3_column_int64(row, 3);
		last = sqlite3_column_int64(row, 4);
	}
	if (row)
		sqlite3_reset(row);
	if (status == TMS_OK)
		status = ledger_db_int(
			db, ledger_db_bind(db, SQL_MANIFEST_WAITS, "iiii", place->hour, place->ledger_no, first, last), &waits);
	place->waits = waits != 0;
	return status;
}

TmsStatus ledger_manifest_next(Ledger *ledger, LedgerManifest *place)
{
	LedgerDb *db = &ledger->read;
	sqlite3_stmt *row;
	TmsStatus status;

	pthread_mutex_lock(&ledger->read_lock);
	row = ledger_db_bind(db, SQL_MANIFEST_NEXT, "ii", place->hour, place->ledger_no);
	status = ledger_db_step(db, row);
	if (status == TMS_OK && sqlite3_column_bytes(row, 2) != TMS_UUID_SIZE)
		status = TMS_DAMAGED;
	if (status == TMS_OK)
	{
		place->hour = sqlite3_column_int64(row, 0);
		place->ledger_no = sqlite3_column_int64(row, 1);
		memcpy(place->ledger.bytes, sqlite3_column_blob(row, 2), TMS_UUID_SIZE);
	}
	if (row)
		sqlite3_reset(row);
	if (status == TMS_OK)
		status = read_span(ledger, place);
	pthread_mutex_unlock(&ledger->read_lock);
	return status;
}

TmsStatus ledger_manifest_read(Ledger *ledger, const LedgerManifest *manifest, int64_t after_id, LedgerEntry *out,
							   int max, int *count)
{
	pthread_mutex_lock(&ledger->read_lock);
	return ledger_take_entries(ledger,
							   ledger_db_bind(&ledger->read, SQL_MANIFEST_READ, "iiii", manifest->hour,
											  manifest->ledger_no, after_id, (int64_t) max),
							   out, max, count);
}

typedef struct Written
{
	const LedgerManifest *manifest;
	const int64_t *ids;
	int count;
} Written;

static TmsStatus run_written(Ledger *ledger, LedgerJob *job)
{
	const Written *written = job->argument;
	LedgerDb *db = &ledger->write;
	TmsStatus status = TMS_OK;

	for (int i = 0; i < written->count && status == TMS_OK; i++)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_MANIFEST_WRITTEN, "iii", written->manifest->hour,
												  written->manifest->ledger_no, written->ids[i]));
	return status;
}

TmsStatus ledger_manifest_written(Ledger *ledger, const LedgerManifest *manifest, const int64_t *ids, int count)
{
	Written written = {manifest, ids, count};

	return ledger_write(ledger, run_written, &written);
}

static TmsStatus run_walk(Ledger *ledger, LedgerJob *job)
{
	int64_t *left = job->argument;
	LedgerDb *db = &ledger->write;
	int64_t from, oldest = 0;
	TmsStatus status = ledger_meta_get(db, WALK_META, left);

	if (status != TMS_OK || *left == 0)
		return status;
	from = *left - WALK_PIECE;
	status = ledger_db_int(db, ledger_db_bind(db, SQL_CAPTURE_MIN_ID, ""), &oldest);
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_MANIFEST_ADD_OLD, "ii", from, *left));
	*left = from < oldest ? 0 : from; /* ids do not begin at 1 */
	return status == TMS_OK ? ledger_meta_put(db, WALK_META, *left) : status;
}

TmsStatus ledger_manifest_walk(Ledger *ledger, bool *more)
{
	int64_t left = 0;
	TmsStatus status = ledger_write(ledger, run_walk, &left);

	*more = left > 0;
	return status;
}
