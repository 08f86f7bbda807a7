/*
 * Indexing the cache, in the background, while intake goes on: after a lost or damaged ledger.db, a ledger that went back in
 * time, or a power cut. Every file below cache/ gets a row unless it has one; nothing is deleted. A file whose bytes are not
 * those its name speaks of goes to quarantine/.
 *
 * Where a file's row goes: to the ledger and seq that its name tells, or that a fork took it to since (cache/.ledgers), if
 * that place is free in a sealed ledger, so that the path center finds what it knows already; else to the end of the active
 * ledger, like a new capture, under the path it has.
 *
 * Rows are added by jobs of the writer thread, some at a time, which look again whether there is one: files of intake are
 * placed and get their rows within one job, so none is ever taken for a stray. While this goes on sealed ledgers are not
 * reported, since a seq that was not found yet would look like a gap.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define PIECE    65536 /* bytes read at once */
#define BATCH    32 /* rows added in one job */
#define NICE     10 /* behind intake, when there is not enough of the processor */
#define RETRY_MS (600 * 1000)

/* One file that may need a row. */
typedef struct Stray
{
	TmsStoragePathParts parts;
	LedgerEntry entry;
} Stray;

typedef struct Index
{
	Ledger *ledger;
	int64_t generation; /* of the ledger.db that it is for */
	int64_t since; /* only folders that changed then or later */
	int64_t files;
	int64_t added;
	int64_t set_aside;
	TmsStatus status; /* of the first file that could not be dealt with */
	int count;
	Stray batch[BATCH];
} Index;

/* Where a file's row is, or is to go. */
typedef struct Place
{
	TmsUuid uuid;
	bool known; /* is uuid known? */
	int64_t no; /* the ledger's local number; 0: it has to be made */
	int64_t seq;
	bool taken; /* by another capture */
} Place;

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
	if (record && record_from_stored(&entry->record, record, strlen(record), error) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger_record_damaged", "path=%s reason=\"%s\"", entry->path, error);
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

/* The local number of the ledger that a path's number, or (uuid given) a UUID stands for; 0: none. */
static int64_t ledger_no(LedgerDb *db, int32_t number, const TmsUuid *uuid)
{
	sqlite3_stmt *rows = ledger_db_bind(db, SQL_LEDGER_UUIDS, "");
	int64_t no = 0;
	TmsUuid one;

	while (no == 0 && ledger_db_step(db, rows) == TMS_OK)
	{
		if (sqlite3_column_bytes(rows, 1) != TMS_UUID_SIZE)
			continue;
		memcpy(one.bytes, sqlite3_column_blob(rows, 1), TMS_UUID_SIZE);
		if (uuid ? memcmp(one.bytes, uuid->bytes, TMS_UUID_SIZE) == 0 : tms_ledger_number(&one) == number)
			no = sqlite3_column_int64(rows, 0);
	}
	if (rows)
		sqlite3_reset(rows);
	return no;
}

/* The path and id of the capture at (no, seq): TMS_OK with them, TMS_NOT_FOUND. */
static TmsStatus path_at(LedgerDb *db, int64_t no, int64_t seq, char path[TMS_STORAGE_PATH_SIZE], int64_t *id)
{
	sqlite3_stmt *row = ledger_db_bind(db, SQL_CAPTURE_BY_PATH_SEQ, "ii", no, seq);
	TmsStatus status = ledger_db_step(db, row);

	if (status == TMS_OK)
	{
		snprintf(path, TMS_STORAGE_PATH_SIZE, "%s", (const char *) sqlite3_column_text(row, 0));
		*id = sqlite3_column_int64(row, 1);
	}
	if (row)
		sqlite3_reset(row);
	return status;
}

TmsStatus ledger_find_path(LedgerDb *db, const char *path, int64_t *id)
{
	char at[TMS_STORAGE_PATH_SIZE];
	TmsStoragePathParts parts;
	int64_t no = tms_storage_path_parse(path, &parts) ? ledger_no(db, parts.ledger_no, NULL) : 0;
	TmsStatus status = no == 0 ? TMS_NOT_FOUND : path_at(db, no, parts.seq, at, id);

	if (status == TMS_OK && strcmp(at, path) == 0)
		return TMS_OK;
	if (status != TMS_OK && status != TMS_NOT_FOUND)
		return status;
	return ledger_db_int(db, ledger_db_bind(db, SQL_MOVED_HAS, "t", path), id);
}

/* --- adding, in the writer thread --- */

/* Finds the place of a file that has no row. */
static TmsStatus find_place(Ledger *ledger, const TmsStoragePathParts *parts, Place *place)
{
	LedgerDb *db = &ledger->write;
	char at[TMS_STORAGE_PATH_SIZE];
	int64_t id;
	TmsStatus status;

	memset(place, 0, sizeof *place);
	place->seq = parts->seq;
	place->known = ledger_noted(ledger, parts->ledger_no, &place->seq, &place->uuid);
	place->no = ledger_no(db, parts->ledger_no, place->known ? &place->uuid : NULL);
	status = place->no == 0 ? TMS_NOT_FOUND : path_at(db, place->no, place->seq, at, &id);
	place->taken = status == TMS_OK;
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

/* Makes the sealed ledger that a path speaks of, under its old UUID. */
static TmsStatus add_ledger(Ledger *ledger, int32_t number, Place *place)
{
	uint32_t head = (uint32_t) number << 1;

	/* Not even the list is left: one UUID with that number is as good as another, as long as it is always the same. */
	for (int i = 0; i < TMS_UUID_SIZE && !place->known; i++)
		place->uuid.bytes[i] = i < 4 ? (uint8_t) (head >> (24 - 8 * i)) : i == 6 || i == 8 ? 0x80 : 0;
	return ledger_add(ledger, &place->uuid, true, true, &place->no);
}

static TmsStatus add_to_active(Ledger *ledger, LedgerEntry *entry)
{
	LedgerActive *active = &ledger->active;
	TmsStatus status;

	entry->ledger = active->uuid;
	entry->seq = active->last_seq + 1;
	if (entry->seq > TMS_SEQ_MAX)
		return TMS_AGAIN; /* the next capture begins another ledger */
	status = ledger_insert(ledger, active->no, entry);
	if (status == TMS_OK)
		active->last_seq = entry->seq;
	return status;
}

static TmsStatus add_row(Ledger *ledger, Stray *stray, bool *added)
{
	LedgerDb *db = &ledger->write;
	LedgerEntry *entry = &stray->entry;
	Place place;
	int64_t id;
	TmsStatus status = ledger_find_path(db, entry->path, &id);

	if (status != TMS_NOT_FOUND)
		return status;
	*added = true;
	status = find_place(ledger, &stray->parts, &place);
	if (status != TMS_OK)
		return status;
	if (place.no == ledger->active.no || place.taken)
		status = add_to_active(ledger, entry);
	else
	{
		if (place.no == 0)
			status = add_ledger(ledger, stray->parts.ledger_no, &place);
		entry->seq = place.seq;
		if (status == TMS_OK)
			status = ledger_insert(ledger, place.no, entry);
		/* The path center is to hear of it, should it not know it. */
		if (status == TMS_OK)
			status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UNCONFIRM, "ii", place.no, entry->seq));
	}
	/* Found by its path also when that speaks of another place. */
	if (status == TMS_OK && ledger_find_path(db, entry->path, &id) == TMS_NOT_FOUND)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_MOVED_PUT, "ti", entry->path, entry->id));
	return status;
}

static TmsStatus run_add(Ledger *ledger, LedgerJob *job)
{
	Index *index = job->argument;
	TmsStatus status = TMS_OK;

	for (int i = 0; i < index->count && status == TMS_OK; i++)
	{
		bool added = false;

		status = add_row(ledger, &index->batch[i], &added);
		index->added += added;
	}
	return status;
}

/* Adds the rows that were gathered. */
static TmsStatus flush(Index *index)
{
	int64_t added = index->added;
	TmsStatus status = index->count > 0 ? ledger_write(index->ledger, run_add, index) : TMS_OK;

	if (status != TMS_OK)
		index->added = added;
	index->count = 0;
	return status;
}

/* --- looking --- */

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

/* Takes a file's measure and puts it with those that get a row. */
static TmsStatus add_stray(Index *index, const char *path, const TmsStoragePathParts *parts)
{
	Ledger *ledger = index->ledger;
	Stray *stray = &index->batch[index->count];
	TmsStatus status;

	memset(stray, 0, sizeof *stray);
	stray->parts = *parts;
	snprintf(stray->entry.path, sizeof stray->entry.path, "%s", path);
	status = measure(ledger, path, &stray->entry.bytes, stray->entry.sha256);
	if (status == TMS_OK && memcmp(stray->entry.sha256, parts->sha256_head, sizeof parts->sha256_head) != 0)
	{
		log_event(LOG_LEVEL_ERROR, "cache_file_damaged", "path=%s action=\"moved to quarantine\"", path);
		index->set_aside++;
		return cache_set_aside(ledger->cache, path, "the digest is not the one its name speaks of");
	}
	if (status != TMS_OK)
		return status == TMS_NOT_FOUND ? TMS_OK : status; /* gone meanwhile: it had a row */
	read_description(ledger, &stray->entry);
	index->count++;
	return index->count == BATCH ? flush(index) : TMS_OK;
}

static TmsStatus visit(void *state, const char *path, const TmsStoragePathParts *parts)
{
	Index *index = state;
	Ledger *ledger = index->ledger;
	int64_t id;
	TmsStatus status;

	if (worker_stopping(ledger->indexer.stop_fd))
		return TMS_STOPPED;
	index->files++;
	pthread_mutex_lock(&ledger->read_lock);
	status = ledger_find_path(&ledger->read, path, &id);
	pthread_mutex_unlock(&ledger->read_lock);
	if (status == TMS_NOT_FOUND)
		status = add_stray(index, path, parts);
	if (status != TMS_OK && index->status == TMS_OK)
		index->status = status; /* one file that cannot be read does not stop the others */
	return status == TMS_STOPPED ? status : TMS_OK;
}

/* --- from beginning to end --- */

static TmsStatus run_begin(Ledger *ledger, LedgerJob *job)
{
	Index *index = job->argument;

	index->generation = ledger->generation;
	return ledger_meta_get(&ledger->write, "index_since", &index->since);
}

/* All was seen, and what could not be dealt with must not keep the rest from being reported. */
static TmsStatus run_end(Ledger *ledger, LedgerJob *job)
{
	Index *index = job->argument;
	TmsStatus status;

	if (index->generation != ledger->generation)
		return TMS_AGAIN; /* ledger.db was replaced meanwhile */
	status = ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_BUILT, ""));
	if (status == TMS_OK && index->status == TMS_OK)
		status = ledger_meta_put(&ledger->write, "index", 0);
	return status;
}

/* Indexes the cache once; TMS_OK when every file is known to the ledger. */
static TmsStatus index_cache(Index *index)
{
	Ledger *ledger = index->ledger;
	TmsStatus status = ledger_write(ledger, run_begin, index), flushed;

	if (status != TMS_OK)
		return status;
	log_event(LOG_LEVEL_INFO, "indexing", "reason=\"the cache may hold captures that the ledger does not know\"");
	status = cache_walk(ledger->cache, index->since, visit, index);
	flushed = flush(index);
	if (status == TMS_OK && index->status == TMS_OK)
		index->status = flushed;
	if (status == TMS_OK)
		status = ledger_write(ledger, run_end, index);
	if (status == TMS_OK)
		status = index->status;
	log_event(status == TMS_OK || status == TMS_STOPPED ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "indexed",
			  "status=%s files=%lld added=%lld quarantined=%lld", tms_status_name(status), (long long) index->files,
			  (long long) index->added, (long long) index->set_aside);
	return status;
}

/* Waits until the cache is to be indexed, and does it, until it has succeeded. */
static void run(void *argument)
{
	Ledger *ledger = argument;
	struct pollfd wait[] = {{ledger->indexer.stop_fd, POLLIN, 0}, {ledger->index_wanted, POLLIN, 0}};
	Index *index = malloc(sizeof *index);
	int timeout = -1;
	eventfd_t count;

	/* A failure leaves it beside intake in the queue for the processor, no more. */
	(void) setpriority(PRIO_PROCESS, (id_t) gettid(), NICE);
	while (index && (poll(wait, 2, timeout) >= 0 || errno == EINTR) && !worker_stopping(wait[0].fd))
	{
		(void) eventfd_read(wait[1].fd, &count);
		memset(index, 0, sizeof *index);
		index->ledger = ledger;
		timeout = index_cache(index) == TMS_OK ? -1 : RETRY_MS;
	}
	free(index);
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
