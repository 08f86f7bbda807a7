/*
 * What happens to captures: appended, uploaded, set aside, confirmed, trimmed; ledger_clean.c has the cleaning. Every function here hands a job to
 * the writer thread; see ledger.c.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "worker.h"

#define TRIM_PIECE 2000 /* rows of a ledger dropped in one job */

/* --- appending --- */

TmsStatus ledger_insert(Ledger *ledger, int64_t no, LedgerEntry *entry)
{
	char record[RECORD_JSON_SIZE];
	TmsStatus status = record_to_json(&entry->record, record, sizeof record);

	if (status != TMS_OK)
		return status;
	status =
		ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_INSERT, "iiiiiitbt", no, entry->seq,
													 entry->bytes, entry->taken_at, entry->record.captured_at,
													 (int64_t) (entry->record.violation_code[0] != '\0'), entry->path,
													 entry->sha256, TMS_SHA256_SIZE, record));
	if (status == TMS_OK)
	{
		entry->id = sqlite3_last_insert_rowid(ledger->write.handle);
		entry->held = true;
		status =
			ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_LAST_SEQ, "ii", no, entry->seq));
	}
	return status;
}

typedef struct Append
{
	const char *temporary;
	const char *key; /* or NULL */
	LedgerEntry *entry;
} Append;

/* A ledger has 2^32 - 1 captures; then the next one begins. */
static TmsStatus make_room(Ledger *ledger)
{
	LedgerDb *db = &ledger->write;
	int64_t no;
	TmsStatus status;

	if (ledger->active.last_seq < TMS_SEQ_MAX)
		return TMS_OK;
	status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_SEAL, "i", ledger->active.no));
	if (status == TMS_OK)
		status = ledger_add(ledger, NULL, false, false, &no);
	return status == TMS_OK ? ledger_load_active(ledger) : status;
}

/* Moves the file to its path. A stranger that lies there has no row and is in nobody's way in quarantine/. */
static TmsStatus place(Ledger *ledger, const char *temporary, const char *path)
{
	TmsStatus status;

	ledger_note_placing(ledger, path);
	status = cache_place(ledger->cache, temporary, path);
	if (status == TMS_EXISTS)
	{
		status = cache_set_aside(ledger->cache, path, "in the place of a new capture, without an entry in the ledger");
		if (status == TMS_OK)
			status = cache_place(ledger->cache, temporary, path);
	}
	return status == TMS_NOT_FOUND || status == TMS_EXISTS ? TMS_IO : status;
}

/* Gives the next seq, places the file, adds the row. */
static TmsStatus append_new(Ledger *ledger, LedgerJob *job)
{
	const Append *append = job->argument;
	LedgerEntry *entry = append->entry;
	LedgerActive *active = &ledger->active;
	TmsStatus status = make_room(ledger);

	if (status != TMS_OK)
		return status;
	entry->ledger = active->uuid;
	entry->seq = active->last_seq + 1;
	if (!tms_storage_path_make(entry->record.captured_at, entry->seq, tms_ledger_number(&active->uuid), entry->sha256,
							   entry->path))
		return TMS_INVALID;
	status = place(ledger, append->temporary, entry->path);
	if (status != TMS_OK)
		return status;
	job->placed = entry->path;
	status = ledger_insert(ledger, active->no, entry);
	if (status == TMS_OK && append->key)
		status = ledger_key_put(ledger, append->key, entry);
	if (status == TMS_OK)
		active->last_seq = entry->seq;
	return status;
}

static TmsStatus run_append(Ledger *ledger, LedgerJob *job)
{
	const Append *append = job->argument;
	TmsStatus status = append->key ? ledger_key_find(ledger, append->key, append->entry) : TMS_NOT_FOUND;

	if (status != TMS_NOT_FOUND)
		return status;
	status = append_new(ledger, job);
	/* Only what a key was answered with may be said to be there: that is an acknowledgement. */
	return status == TMS_EXISTS || status == TMS_NOT_FOUND ? TMS_IO : status;
}

TmsStatus ledger_append(Ledger *ledger, const char *temporary, const char *key, LedgerEntry *entry)
{
	Append append = {temporary, key, entry};

	return ledger_write(ledger, run_append, &append);
}

/* --- uploads --- */

typedef struct Change
{
	int64_t id;
	const char *text;
} Change;

typedef struct Uploads
{
	const LedgerUpload *list;
	int count;
} Uploads;

static TmsStatus run_set_uploaded(Ledger *ledger, LedgerJob *job)
{
	const Uploads *uploads = job->argument;
	LedgerDb *db = &ledger->write;
	TmsStatus status = TMS_OK;

	for (int i = 0; i < uploads->count && status == TMS_OK; i++)
	{
		const LedgerUpload *one = &uploads->list[i];

		status = ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_UPLOADED, "iiit", one->id, one->at,
												  (int64_t) one->how, one->etag[0] ? one->etag : NULL));
		if (status == TMS_OK)
			status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UPLOADED_MAX, "i", one->id));
	}
	return status == TMS_OK ? ledger_request_look(ledger) : status;
}

TmsStatus ledger_set_uploaded(Ledger *ledger, const LedgerUpload *uploads, int count)
{
	Uploads all = {uploads, count};

	return ledger_write(ledger, run_set_uploaded, &all);
}

static TmsStatus run_set_missing(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;

	return ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_NOT_UPLOADED, "iit", change->id,
														clock_now(), change->text));
}

TmsStatus ledger_set_missing(Ledger *ledger, int64_t id, const char *reason)
{
	Change change = {.id = id, .text = reason};

	return ledger_write(ledger, run_set_missing, &change);
}

static TmsStatus run_set_aside(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;
	TmsStatus status = ledger_db_run(&ledger->write,
									 ledger_db_bind(&ledger->write, SQL_CAPTURE_ASIDE, "it", change->id, change->text));

	return status == TMS_OK ? ledger_request_look(ledger) : status;
}

TmsStatus ledger_set_aside(Ledger *ledger, int64_t id, const char *reason)
{
	Change change = {.id = id, .text = reason};

	return ledger_write(ledger, run_set_aside, &change);
}

/* --- registration --- */

typedef struct Confirm
{
	const TmsUuid *uuid;
	int64_t seq;
} Confirm;

static TmsStatus run_confirm(Ledger *ledger, LedgerJob *job)
{
	const Confirm *confirm = job->argument;

	return ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_CONFIRM, "bi", confirm->uuid->bytes,
														TMS_UUID_SIZE, confirm->seq));
}

TmsStatus ledger_confirm(Ledger *ledger, const TmsUuid *uuid, int64_t confirmed)
{
	Confirm confirm = {uuid, confirmed};

	return ledger_write(ledger, run_confirm, &confirm);
}

static TmsStatus run_next_report(Ledger *ledger, LedgerJob *job)
{
	int64_t *report_no = job->argument;
	TmsStatus status = ledger_meta_get(&ledger->write, "report_no", report_no);

	/* Begun at the clock, so that the numbers of a ledger.db that was lost are behind it. */
	*report_no = *report_no >= clock_now() ? *report_no + 1 : clock_now();
	return status == TMS_OK ? ledger_meta_put(&ledger->write, "report_no", *report_no) : status;
}

TmsStatus ledger_next_report(Ledger *ledger, int64_t *report_no)
{
	*report_no = 0;
	return ledger_write(ledger, run_next_report, report_no);
}

/* --- trimming --- */

typedef struct Trim
{
	int64_t before;
	int64_t last_id;
	int64_t dropped; /* in one piece */
} Trim;

/* Drops up to TRIM_PIECE of a ledger's oldest entries. */
static TmsStatus trim_one(Ledger *ledger, int64_t no, Trim *trim)
{
	LedgerDb *db = &ledger->write;
	int64_t kept;
	TmsStatus status = ledger_db_int(
		db, ledger_db_bind(db, SQL_CAPTURE_TRIM_TO, "iiii", no, trim->before, (int64_t) TRIM_PIECE, trim->last_id),
		&kept);

	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_TRIM, "ii", no, kept));
	if (status == TMS_OK)
	{
		trim->dropped += sqlite3_changes(db->handle);
		status = ledger_db_run(db, ledger_db_bind(db, SQL_CONFIRMATION_TRIM, "ii", no, kept));
	}
	return status;
}

static TmsStatus run_trim(Ledger *ledger, LedgerJob *job)
{
	Trim *trim = job->argument;
	LedgerDb *db = &ledger->write;
	sqlite3_stmt *ledgers = ledger_db_bind(db, SQL_LEDGER_UUIDS, "");
	TmsStatus status, trimmed = TMS_OK;

	trim->dropped = 0;
	while ((status = ledger_db_step(db, ledgers)) == TMS_OK && trimmed == TMS_OK)
		trimmed = trim_one(ledger, sqlite3_column_int64(ledgers, 0), trim);
	if (ledgers)
		sqlite3_reset(ledgers);
	return trimmed != TMS_OK ? trimmed : status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_trim(Ledger *ledger, int64_t before, int64_t last_id, int64_t *dropped)
{
	Trim trim = {.before = before, .last_id = last_id};
	TmsStatus status;

	*dropped = 0;
	do
	{
		status = ledger_write(ledger, run_trim, &trim);
		*dropped += status == TMS_OK ? trim.dropped : 0;
	} while (status == TMS_OK && trim.dropped > 0);
	return status;
}
