/*
 * Reading the ledger: on a connection of its own, which never waits for the writer.
 */
#include <stdio.h>
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define CLEANABLE_PIECE 5000 /* rows looked at in one call */

/* Columns of ENTRY_COLUMNS. */
enum
{
	COLUMN_ID,
	COLUMN_UUID,
	COLUMN_SEQ,
	COLUMN_BYTES,
	COLUMN_TAKEN_AT,
	COLUMN_CAPTURED_AT,
	COLUMN_UPLOADED_AT,
	COLUMN_HELD,
	COLUMN_PATH,
	COLUMN_SHA256,
	COLUMN_RECORD,
	COLUMN_ETAG,
	COLUMN_REQUESTED,
	COLUMN_COUNT,
};

_Static_assert(COLUMN_COUNT == LEDGER_ENTRY_COLUMNS, "ENTRY_COLUMNS has as many");

bool ledger_entry_of(sqlite3_stmt *row, LedgerEntry *entry)
{
	const char *path = (const char *) sqlite3_column_text(row, COLUMN_PATH);
	const char *record = (const char *) sqlite3_column_text(row, COLUMN_RECORD);
	const char *etag = (const char *) sqlite3_column_text(row, COLUMN_ETAG);
	TmsStoragePathParts parts;
	char error[RECORD_ERROR_SIZE];

	memset(entry, 0, sizeof *entry);
	entry->id = sqlite3_column_int64(row, COLUMN_ID);
	entry->seq = sqlite3_column_int64(row, COLUMN_SEQ);
	entry->bytes = sqlite3_column_int64(row, COLUMN_BYTES);
	entry->taken_at = sqlite3_column_int64(row, COLUMN_TAKEN_AT);
	entry->uploaded_at = sqlite3_column_int64(row, COLUMN_UPLOADED_AT);
	entry->held = sqlite3_column_int64(row, COLUMN_HELD) != 0;
	entry->requested = sqlite3_column_int64(row, COLUMN_REQUESTED) != 0;
	if (!path || !record || !tms_storage_path_valid(path, strlen(path)) ||
		sqlite3_column_bytes(row, COLUMN_UUID) != TMS_UUID_SIZE ||
		sqlite3_column_bytes(row, COLUMN_SHA256) != TMS_SHA256_SIZE)
		return false;
	memcpy(entry->ledger.bytes, sqlite3_column_blob(row, COLUMN_UUID), TMS_UUID_SIZE);
	memcpy(entry->sha256, sqlite3_column_blob(row, COLUMN_SHA256), TMS_SHA256_SIZE);
	snprintf(entry->path, sizeof entry->path, "%s", path);
	snprintf(entry->etag, sizeof entry->etag, "%s", etag ? etag : "");
	/* SQLite has no checksums: the digest's head in the name tells of a digest or name that changed. */
	if (tms_storage_path_parse(path, &parts) && memcmp(parts.sha256_head, entry->sha256, sizeof parts.sha256_head) != 0)
		return false;
	/* The photograph counts, and what is known of its time; of the record, what can be read. */
	if (record_from_stored(&entry->record, record, strlen(record), error) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger_record_damaged", "id=%lld reason=\"%s\"", (long long) entry->id, error);
	entry->record.captured_at = sqlite3_column_int64(row, COLUMN_CAPTURED_AT);
	entry->record.has_captured_at = true;
	return true;
}

/* --- a row that makes no sense is set aside --- */

static TmsStatus run_set_damaged_aside(Ledger *ledger, LedgerJob *job)
{
	const int64_t *id = job->argument;
	TmsStatus status = ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_DAMAGED, "i", *id));

	if (status == TMS_OK && sqlite3_changes(ledger->write.handle) > 0)
		log_event(LOG_LEVEL_ERROR, "ledger_row_damaged", "id=%lld action=\"set aside\"", (long long) *id);
	return status;
}

TmsStatus ledger_take_entries(Ledger *ledger, sqlite3_stmt *rows, LedgerEntry *out, int max, int *count)
{
	TmsStatus status = TMS_NOT_FOUND;
	int64_t damaged = 0;

	*count = 0;
	while (*count < max && (status = ledger_db_step(&ledger->read, rows)) == TMS_OK)
	{
		if (ledger_entry_of(rows, &out[*count]))
			(*count)++;
		else
			damaged = sqlite3_column_int64(rows, COLUMN_ID);
	}
	if (rows)
		sqlite3_reset(rows);
	pthread_mutex_unlock(&ledger->read_lock);
	if (damaged != 0)
		(void) !ledger_write(ledger, run_set_damaged_aside, &damaged);
	return *count == max || status == TMS_NOT_FOUND ? TMS_OK : status;
}

static TmsStatus take_one(Ledger *ledger, sqlite3_stmt *rows, LedgerEntry *out)
{
	int count;
	TmsStatus status = ledger_take_entries(ledger, rows, out, 1, &count);

	return status == TMS_OK && count == 0 ? TMS_NOT_FOUND : status;
}

/* --- entries --- */

TmsStatus ledger_get(Ledger *ledger, const TmsUuid *uuid, int64_t seq, LedgerEntry *out)
{
	pthread_mutex_lock(&ledger->read_lock);
	return take_one(ledger, ledger_db_bind(&ledger->read, SQL_CAPTURE_BY_SEQ, "bi", uuid->bytes, TMS_UUID_SIZE, seq),
					out);
}

TmsStatus ledger_get_id(Ledger *ledger, int64_t id, LedgerEntry *out)
{
	pthread_mutex_lock(&ledger->read_lock);
	return take_one(ledger, ledger_db_bind(&ledger->read, SQL_CAPTURE_BY_ID, "i", id), out);
}

TmsStatus ledger_get_path(Ledger *ledger, const char *path, LedgerEntry *out)
{
	int64_t id;
	TmsStatus status;

	pthread_mutex_lock(&ledger->read_lock);
	status = ledger_find_path(&ledger->read, path, &id);
	if (status == TMS_OK)
		return take_one(ledger, ledger_db_bind(&ledger->read, SQL_CAPTURE_BY_ID, "i", id), out);
	pthread_mutex_unlock(&ledger->read_lock);
	return status;
}

TmsStatus ledger_next_uploads(Ledger *ledger, bool requested, int64_t last_id, LedgerEntry *out, int max, int *count)
{
	int sql = requested ? SQL_CAPTURE_NEXT_REQUESTED : SQL_CAPTURE_NEXT_UPLOADS;
	int64_t position = requested && last_id == 0 ? INT64_MAX : last_id;

	pthread_mutex_lock(&ledger->read_lock);
	return ledger_take_entries(ledger, ledger_db_bind(&ledger->read, sql, "ii", position, (int64_t) max), out, max,
							   count);
}

TmsStatus ledger_read(Ledger *ledger, const TmsUuid *uuid, int64_t from_seq, LedgerEntry *out, int max, int *count)
{
	pthread_mutex_lock(&ledger->read_lock);
	return ledger_take_entries(
		ledger,
		ledger_db_bind(&ledger->read, SQL_CAPTURE_READ, "bii", uuid->bytes, TMS_UUID_SIZE, from_seq, (int64_t) max),
		out, max, count);
}

TmsStatus ledger_newest(Ledger *ledger, LedgerEntry *out, int max, int *count)
{
	pthread_mutex_lock(&ledger->read_lock);
	return ledger_take_entries(ledger, ledger_db_bind(&ledger->read, SQL_CAPTURE_NEWEST, "i", (int64_t) max), out, max,
							   count);
}

/* The entry that ends the piece of CLEANABLE_PIECE rows behind the position; the lock is held. */
static TmsStatus end_of_piece(Ledger *ledger, const LedgerCleanable *where, LedgerCleanable *end)
{
	sqlite3_stmt *row = ledger_db_bind(&ledger->read, SQL_CAPTURE_CLEANABLE_PIECE, "iiii", where->before,
									   where->taken_at, where->id, (int64_t) CLEANABLE_PIECE - 1);
	TmsStatus status = ledger_db_step(&ledger->read, row);

	*end = (LedgerCleanable){.taken_at = INT64_MAX, .id = INT64_MAX, .ended = status == TMS_NOT_FOUND};
	if (status == TMS_OK)
	{
		end->taken_at = sqlite3_column_int64(row, 0);
		end->id = sqlite3_column_int64(row, 1);
	}
	if (row)
		sqlite3_reset(row);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_next_cleanable(Ledger *ledger, LedgerCleanable *where, LedgerEntry *out, int max, int *count)
{
	LedgerCleanable end;
	TmsStatus status;

	*count = 0;
	pthread_mutex_lock(&ledger->read_lock);
	status = end_of_piece(ledger, where, &end);
	if (status != TMS_OK)
	{
		pthread_mutex_unlock(&ledger->read_lock);
		return status;
	}
	status = ledger_take_entries(ledger,
								 ledger_db_bind(&ledger->read, SQL_CAPTURE_NEXT_CLEANABLE, "iiiiiii", where->before,
												where->taken_at, where->id, end.taken_at, end.id, where->last_id,
												(int64_t) max),
								 out, max, count);
	if (status != TMS_OK)
		return status;
	where->ended = *count < max && end.ended;
	where->taken_at = *count == max ? out[max - 1].taken_at : end.taken_at;
	where->id = *count == max ? out[max - 1].id : end.id;
	return TMS_OK;
}

int64_t ledger_aged(Ledger *ledger, int64_t period)
{
	int64_t last_id = 0;

	pthread_mutex_lock(&ledger->read_lock);
	if (ledger_db_int(&ledger->read, ledger_db_bind(&ledger->read, SQL_MARK_AT, "i", ledger_elapsed(ledger) - period),
					  &last_id) != TMS_OK)
		last_id = 0;
	pthread_mutex_unlock(&ledger->read_lock);
	return last_id;
}

/* --- ledgers and counters --- */

static void info_of(sqlite3_stmt *row, LedgerInfo *info)
{
	memcpy(info->ledger.bytes, sqlite3_column_blob(row, 0), TMS_UUID_SIZE);
	info->sealed = sqlite3_column_int64(row, 1) != 0;
	info->last_seq = sqlite3_column_int64(row, 2);
	info->confirmed = sqlite3_column_int64(row, 3);
	info->uploaded_max = sqlite3_column_int64(row, 4);
	info->oldest_seq = sqlite3_column_int64(row, 5);
	info->uploaded_seq = sqlite3_column_int64(row, 6);
	info->cleaned_seq = sqlite3_column_int64(row, 7);
}

TmsStatus ledger_list(Ledger *ledger, LedgerInfo *out, int max, int *count)
{
	sqlite3_stmt *rows;
	TmsStatus status = TMS_OK;

	*count = 0;
	pthread_mutex_lock(&ledger->read_lock);
	rows = ledger_db_bind(&ledger->read, SQL_LEDGER_LIST, "i", (int64_t) max);
	while (*count < max && (status = ledger_db_step(&ledger->read, rows)) == TMS_OK)
		if (sqlite3_column_bytes(rows, 0) == TMS_UUID_SIZE)
			info_of(rows, &out[(*count)++]);
	if (rows)
		sqlite3_reset(rows);
	pthread_mutex_unlock(&ledger->read_lock);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

static int64_t read_meta(Ledger *ledger, const char *name)
{
	int64_t value = 0;

	pthread_mutex_lock(&ledger->read_lock);
	if (ledger_meta_get(&ledger->read, name, &value) != TMS_OK)
		value = 0;
	pthread_mutex_unlock(&ledger->read_lock);
	return value;
}

int64_t ledger_request_seen(Ledger *ledger)
{
	return read_meta(ledger, "request_seen");
}

TmsStatus ledger_requests(Ledger *ledger, LedgerRequest *out, int max, int *count)
{
	TmsStatus status = TMS_NOT_FOUND;
	sqlite3_stmt *rows;

	*count = 0;
	pthread_mutex_lock(&ledger->read_lock);
	rows = ledger_db_bind(&ledger->read, SQL_REQUEST_LIST, "i", (int64_t) max);
	while (*count < max && (status = ledger_db_step(&ledger->read, rows)) == TMS_OK)
	{
		LedgerRequest *request = &out[(*count)++];

		request->id = sqlite3_column_int64(rows, 0);
		request->taken_at = sqlite3_column_int64(rows, 1);
		request->held = sqlite3_column_int64(rows, 2);
		request->not_held = sqlite3_column_int64(rows, 3);
		request->done_at = sqlite3_column_int64(rows, 4);
	}
	if (rows)
		sqlite3_reset(rows);
	pthread_mutex_unlock(&ledger->read_lock);
	return *count == max || status == TMS_NOT_FOUND ? TMS_OK : status;
}

int64_t ledger_cleaning_period(Ledger *ledger)
{
	return read_meta(ledger, "cleaning_period");
}

int64_t ledger_offered_period(Ledger *ledger)
{
	return read_meta(ledger, "cleaning_period_offered");
}

/* The oldest of what waits in both upload queues. */
static TmsStatus oldest_upload(LedgerDb *db, int64_t *oldest)
{
	int64_t of_queue;

	*oldest = 0;
	for (int64_t requested = 0; requested <= 1; requested++)
	{
		TmsStatus status = ledger_db_int(db, ledger_db_bind(db, SQL_OLDEST_UPLOAD, "i", requested), &of_queue);

		if (status == TMS_OK && (*oldest == 0 || of_queue < *oldest))
			*oldest = of_queue;
		else if (status != TMS_OK && status != TMS_NOT_FOUND)
			return status;
	}
	return TMS_OK;
}

TmsStatus ledger_counts(Ledger *ledger, LedgerCounts *out)
{
	LedgerDb *db = &ledger->read;
	sqlite3_stmt *counters;
	TmsStatus status;

	memset(out, 0, sizeof *out);
	pthread_mutex_lock(&ledger->read_lock);
	counters = ledger_db_bind(db, SQL_COUNTERS, "");
	status = ledger_db_step(db, counters);
	if (status == TMS_OK)
	{
		out->cached = sqlite3_column_int64(counters, 0);
		out->cached_bytes = sqlite3_column_int64(counters, 1);
		out->upload_backlog = sqlite3_column_int64(counters, 2);
		out->set_aside = sqlite3_column_int64(counters, 3);
		out->cleaned = sqlite3_column_int64(counters, 4);
		out->cleaned_early = sqlite3_column_int64(counters, 5);
	}
	if (counters)
		sqlite3_reset(counters);
	if (status == TMS_OK)
		status = oldest_upload(db, &out->upload_oldest);
	if (status == TMS_OK)
		status = ledger_db_int(db, ledger_db_bind(db, SQL_REQUESTED, ""), &out->upload_requested);
	if (status == TMS_OK)
		status = ledger_db_int(db, ledger_db_bind(db, SQL_REGISTER_BACKLOG, ""), &out->register_backlog);
	if (status == TMS_OK)
		status = ledger_db_int(db, ledger_db_bind(db, SQL_REGISTER_OLDEST, ""), &out->register_oldest);
	if (status == TMS_OK)
		status = ledger_db_int(db, ledger_db_bind(db, SQL_VIOLATIONS, ""), &out->violations_waiting);
	pthread_mutex_unlock(&ledger->read_lock);
	return status;
}
