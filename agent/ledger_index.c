/*
 * Indexing the cache again, in the background, while intake goes on: after a lost or damaged ledger.db, a ledger that went
 * back in time, or a power cut. Every file below cache/ gets a row unless it has one; nothing is deleted. A file whose bytes
 * are not those its name speaks of goes to quarantine/.
 *
 * Where a file's row goes: to the ledger and seq that its name tells, if that place is free in a sealed ledger, so that the
 * path center finds what it knows already; else to the end of the active ledger, like a new capture, under the path it has.
 * A ledger that is being built is not reported before all of the cache was seen, since a seq that was not found yet would
 * look like a gap.
 *
 * Each row is added by a job of the writer thread, which looks again whether there is one: files of intake are placed and
 * get their rows within one job, so none is ever taken for a stray.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define PIECE 65536

typedef struct Index
{
	Ledger *ledger;
	int64_t files;
	int64_t added;
	int64_t set_aside;
	TmsStatus status;
} Index;

/* One file that may need a row. */
typedef struct Stray
{
	TmsStoragePathParts parts;
	LedgerEntry entry;
	bool added;
} Stray;

/* --- what travels with a file --- */

TmsStatus ledger_describe(const LedgerEntry *entry, char *out, size_t size)
{
	char record[RECORD_JSON_SIZE];
	TmsStatus status = record_to_json(&entry->record, record, sizeof record);
	int len;

	if (status != TMS_OK)
		return status;
	len = snprintf(out, size, "{\"taken_at\":%lld,\"record\":%s}", (long long) entry->taken_at, record);
	return len > 0 && (size_t) len < size ? TMS_OK : TMS_TOO_LARGE;
}

/* Reads it back as far as it goes; what is missing is made of the path and the clock. */
static void read_description(Ledger *ledger, LedgerEntry *entry)
{
	char text[CACHE_NOTE_SIZE], hour[32], error[RECORD_ERROR_SIZE];
	json_t *json = NULL, *taken_at;
	char *record = NULL;

	record_init(&entry->record);
	entry->taken_at = clock_now();
	if (cache_read_note(ledger->cache, entry->path, text) == TMS_OK)
		json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	taken_at = json_object_get(json, "taken_at");
	if (json_is_integer(taken_at))
		entry->taken_at = json_integer_value(taken_at);
	record = json_dumps(json_object_get(json, "record"), JSON_COMPACT);
	if (!record || record_from_json(&entry->record, record, strlen(record), error) != TMS_OK)
		record_init(&entry->record);
	if (!entry->record.has_captured_at)
	{
		snprintf(hour, sizeof hour, "%.4s-%.2s-%.2sT%.2s:00:00Z", entry->path, entry->path + 5, entry->path + 8,
				 entry->path + 11);
		if (!tms_time_parse(hour, strlen(hour), &entry->record.captured_at))
			entry->record.captured_at = entry->taken_at;
		entry->record.has_captured_at = true;
	}
	free(record);
	json_decref(json);
}

/* --- is there a row? --- */

/* The ledger's local number for the number in a path; 0: none. */
static int64_t ledger_of_number(LedgerDb *db, int32_t number)
{
	sqlite3_stmt *rows = ledger_db_bind(db, SQL_LEDGER_UUIDS, "");
	int64_t no = 0;
	TmsUuid uuid;

	while (no == 0 && ledger_db_step(db, rows) == TMS_OK)
	{
		memcpy(uuid.bytes, sqlite3_column_blob(rows, 1), TMS_UUID_SIZE);
		if (tms_ledger_number(&uuid) == number)
			no = sqlite3_column_int64(rows, 0);
	}
	if (rows)
		sqlite3_reset(rows);
	return no;
}

/* The path of the capture at (no, seq): TMS_OK with it, TMS_NOT_FOUND. */
static TmsStatus path_at(LedgerDb *db, int64_t no, int64_t seq, char path[TMS_STORAGE_PATH_SIZE])
{
	sqlite3_stmt *row = ledger_db_bind(db, SQL_CAPTURE_BY_PATH_SEQ, "ii", no, seq);
	TmsStatus status = ledger_db_step(db, row);

	if (status == TMS_OK)
		snprintf(path, TMS_STORAGE_PATH_SIZE, "%s", (const char *) sqlite3_column_text(row, 0));
	if (row)
		sqlite3_reset(row);
	return status;
}

/* TMS_OK: the file has a row. TMS_NOT_FOUND: it has none; *no and *taken tell of the place its name speaks of. */
static TmsStatus find_row(LedgerDb *db, const char *path, const TmsStoragePathParts *parts, int64_t *no, bool *taken)
{
	char at[TMS_STORAGE_PATH_SIZE];
	int64_t id;
	TmsStatus status = TMS_NOT_FOUND;

	*no = ledger_of_number(db, parts->ledger_no);
	if (*no != 0)
		status = path_at(db, *no, parts->seq, at);
	*taken = status == TMS_OK;
	if (status == TMS_OK && strcmp(at, path) == 0)
		return TMS_OK;
	if (status != TMS_OK && status != TMS_NOT_FOUND)
		return status;
	return ledger_db_int(db, ledger_db_bind(db, SQL_MOVED_HAS, "t", path), &id);
}

/* --- adding --- */

/* The sealed ledger a path speaks of, made again under its old UUID. */
static TmsStatus add_ledger(Ledger *ledger, int32_t number, int64_t *no)
{
	TmsUuid uuid;

	if (!ledger_noted(ledger, number, &uuid))
	{
		uint32_t head = (uint32_t) number << 1;

		/* Not even the list is left: any UUID with that number is as good as another. */
		if (!tms_uuid_random(&uuid))
			return TMS_IO;
		for (int i = 0; i < 4; i++)
			uuid.bytes[i] = (uint8_t) (head >> (24 - 8 * i));
	}
	return ledger_add(ledger, &uuid, true, true, no);
}

static TmsStatus add_to_active(Ledger *ledger, LedgerEntry *entry)
{
	LedgerActive *active = &ledger->active;
	TmsStatus status;

	entry->ledger = active->uuid;
	entry->seq = active->last_seq + 1;
	status = ledger_insert(ledger, active->no, entry);
	if (status == TMS_OK)
		active->last_seq = entry->seq;
	if (status == TMS_OK)
		status =
			ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_MOVED_PUT, "ti", entry->path, entry->id));
	return status;
}

static TmsStatus run_add(Ledger *ledger, LedgerJob *job)
{
	Stray *stray = job->argument;
	LedgerEntry *entry = &stray->entry;
	LedgerDb *db = &ledger->write;
	int64_t no;
	bool taken;
	TmsStatus status = find_row(db, entry->path, &stray->parts, &no, &taken);

	if (status != TMS_NOT_FOUND)
		return status;
	status = TMS_OK;
	stray->added = true;
	if (no == ledger->active.no || taken)
		return add_to_active(ledger, entry);
	if (no == 0)
		status = add_ledger(ledger, stray->parts.ledger_no, &no);
	entry->seq = stray->parts.seq;
	if (status == TMS_OK)
		status = ledger_insert(ledger, no, entry);
	/* The path center is to hear of it, should it not know it. */
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UNCONFIRM, "ii", no, entry->seq));
	return status;
}

/* Reads a cached file through: its size and digest. */
static TmsStatus measure(Ledger *ledger, const char *path, int64_t *bytes, uint8_t sha256[TMS_SHA256_SIZE])
{
	TmsSha256 *digest = tms_sha256_new();
	char *piece = malloc(PIECE);
	ssize_t n = 1;
	int64_t size;
	int fd;
	TmsStatus status = digest && piece ? cache_read(ledger->cache, path, &fd, &size) : TMS_MEMORY;

	*bytes = 0;
	if (status == TMS_OK)
	{
		for (; (n = read(fd, piece, PIECE)) > 0 && status == TMS_OK; *bytes += n)
			status = tms_sha256_update(digest, piece, (size_t) n) ? TMS_OK : TMS_MEMORY;
		if (n < 0)
			status = TMS_IO;
		if (status == TMS_OK && !tms_sha256_final(digest, sha256))
			status = TMS_MEMORY;
		close(fd);
	}
	free(piece);
	tms_sha256_free(digest);
	return status;
}

/* Takes a file's measure and adds its row. */
static TmsStatus add_stray(Index *index, const char *path, const TmsStoragePathParts *parts)
{
	Ledger *ledger = index->ledger;
	Stray *stray = calloc(1, sizeof *stray);
	TmsStatus status;

	if (!stray)
		return TMS_MEMORY;
	stray->parts = *parts;
	snprintf(stray->entry.path, sizeof stray->entry.path, "%s", path);
	status = measure(ledger, path, &stray->entry.bytes, stray->entry.sha256);
	if (status == TMS_OK && memcmp(stray->entry.sha256, parts->sha256_head, sizeof parts->sha256_head) != 0)
	{
		log_event(LOG_LEVEL_ERROR, "cache_file_damaged", "path=%s action=\"moved to quarantine\"", path);
		index->set_aside++;
		status = cache_set_aside(ledger->cache, path, "the digest is not the one its name speaks of");
	}
	else if (status == TMS_OK)
	{
		read_description(ledger, &stray->entry);
		status = ledger_write(ledger, run_add, stray);
		index->added += status == TMS_OK && stray->added;
	}
	free(stray);
	return status == TMS_NOT_FOUND ? TMS_OK : status; /* gone meanwhile: it had a row */
}

static TmsStatus visit(void *state, const char *path, const TmsStoragePathParts *parts)
{
	Index *index = state;
	Ledger *ledger = index->ledger;
	int64_t no;
	bool taken;
	TmsStatus status;

	if (worker_stopping(ledger->indexer.stop_fd))
		return TMS_STOPPED;
	index->files++;
	pthread_mutex_lock(&ledger->read_lock);
	status = find_row(&ledger->read, path, parts, &no, &taken);
	pthread_mutex_unlock(&ledger->read_lock);
	if (status == TMS_NOT_FOUND)
		status = add_stray(index, path, parts);
	if (status != TMS_OK && index->status == TMS_OK)
		index->status = status; /* one file that cannot be read does not stop the others */
	return status == TMS_STOPPED ? status : TMS_OK;
}

static TmsStatus run_built(Ledger *ledger, LedgerJob *job)
{
	return ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_BUILT, ""));
}

static void run(void *argument)
{
	Ledger *ledger = argument;
	Index index = {.ledger = ledger};
	TmsStatus status;

	log_event(LOG_LEVEL_INFO, "indexing", "reason=\"the cache may hold captures that the ledger does not know\"");
	status = cache_walk(ledger->cache, 0, visit, &index);
	if (status == TMS_OK)
		status = index.status;
	/* A file that could not be read must not keep the others from being reported; it is tried again at the next start. */
	if (status != TMS_STOPPED)
		status = ledger_write(ledger, run_built, NULL) == TMS_OK ? status : TMS_IO;
	log_event(status == TMS_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "indexed",
			  "status=%s files=%lld added=%lld quarantined=%lld", tms_status_name(status), (long long) index.files,
			  (long long) index.added, (long long) index.set_aside);
}

TmsStatus ledger_index_start(Ledger *ledger)
{
	TmsStatus status = worker_start(&ledger->indexer, "indexer", run, ledger);

	ledger->indexer_running = status == TMS_OK;
	return status;
}

void ledger_index_stop(Ledger *ledger)
{
	if (!ledger->indexer_running)
		return;
	worker_stop(&ledger->indexer);
	ledger->indexer_running = false;
}
