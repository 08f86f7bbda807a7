/*
 * What happens to captures: appended, uploaded, set aside, confirmed, cleaned, trimmed. Every function here hands a job to
 * the writer thread; see ledger.c.
 */
#include <stdio.h>
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"

#define REQUEST_PIECE 5000 /* rows looked at in one job of an upload request */
#define TRIM_PIECE    2000 /* rows dropped in one job */

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
	LedgerEntry *entry;
} Append;

static TmsStatus run_append(Ledger *ledger, LedgerJob *job)
{
	Append *append = job->argument;
	LedgerEntry *entry = append->entry;
	LedgerActive *active = &ledger->active;
	TmsStatus status;

	entry->ledger = active->uuid;
	entry->seq = active->last_seq + 1;
	if (entry->seq > TMS_SEQ_MAX ||
		!tms_storage_path_make(entry->record.captured_at, entry->seq, tms_ledger_number(&active->uuid), entry->sha256,
							   entry->path))
		return TMS_INVALID;
	ledger_note_placing(ledger, entry->path);
	status = cache_place(ledger->cache, append->temporary, entry->path);
	if (status != TMS_OK)
		return status == TMS_NOT_FOUND ? TMS_IO : status;
	job->placed = entry->path;
	status = ledger_insert(ledger, active->no, entry);
	if (status == TMS_OK)
		active->last_seq = entry->seq;
	return status;
}

TmsStatus ledger_append(Ledger *ledger, const char *temporary, LedgerEntry *entry)
{
	Append append = {temporary, entry};

	return ledger_write(ledger, run_append, &append);
}

/* --- uploads --- */

typedef struct Change
{
	int64_t id;
	int64_t value;
	const char *text;
} Change;

/* Where the row of a capture stands: its ledger's local number and its seq. */
static TmsStatus find_place(Ledger *ledger, int64_t id, int64_t *no, int64_t *seq)
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_CAPTURE_PLACE, "i", id);
	TmsStatus status = ledger_db_step(&ledger->write, statement);

	if (status == TMS_OK)
	{
		*no = sqlite3_column_int64(statement, 0);
		*seq = sqlite3_column_int64(statement, 1);
	}
	if (statement)
		sqlite3_reset(statement);
	return status;
}

/* Sets a watermark to what a query finds for it. */
static TmsStatus advance(Ledger *ledger, int64_t no, int find, int set)
{
	int64_t seq;
	TmsStatus status = ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, find, "i", no), &seq);

	return status == TMS_OK ? ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, set, "ii", no, seq))
							: status;
}

static TmsStatus run_set_uploaded(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;
	LedgerDb *db = &ledger->write;
	int64_t no, seq;
	TmsStatus status = find_place(ledger, change->id, &no, &seq);

	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_UPLOADED, "ii", change->id, change->value));
	if (status != TMS_OK)
		return status;
	if (change->value == 0)
		return ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UNUPLOADED, "ii", no, seq));
	status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UPLOADED_MAX, "ii", no, seq));
	return status == TMS_OK ? advance(ledger, no, SQL_LEDGER_NEXT_PENDING, SQL_LEDGER_UPLOADED_SEQ) : status;
}

TmsStatus ledger_set_uploaded(Ledger *ledger, int64_t id, int64_t at)
{
	Change change = {.id = id, .value = at};

	return ledger_write(ledger, run_set_uploaded, &change);
}

static TmsStatus run_set_aside(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;
	int64_t no, seq;
	TmsStatus status = find_place(ledger, change->id, &no, &seq);

	if (status == TMS_OK)
		status = ledger_db_run(&ledger->write,
							   ledger_db_bind(&ledger->write, SQL_CAPTURE_ASIDE, "it", change->id, change->text));
	return status == TMS_OK ? advance(ledger, no, SQL_LEDGER_NEXT_PENDING, SQL_LEDGER_UPLOADED_SEQ) : status;
}

TmsStatus ledger_set_aside(Ledger *ledger, int64_t id, const char *reason)
{
	Change change = {.id = id, .text = reason};

	return ledger_write(ledger, run_set_aside, &change);
}

typedef struct Request
{
	int64_t id;
	int64_t since;
	int64_t until;
	int64_t after; /* rows up to this id are done */
	int64_t last; /* greatest id when the request came */
} Request;

static TmsStatus run_request_piece(Ledger *ledger, LedgerJob *job)
{
	const Request *request = job->argument;
	LedgerDb *db = &ledger->write;
	sqlite3_stmt *rows = ledger_db_bind(db, SQL_CAPTURE_REQUEST, "iiii", request->after, request->after + REQUEST_PIECE,
										request->since, request->until);
	TmsStatus status, changed = TMS_OK;

	while ((status = ledger_db_step(db, rows)) == TMS_OK && changed == TMS_OK)
		changed = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_UNUPLOADED, "ii", sqlite3_column_int64(rows, 0),
												   sqlite3_column_int64(rows, 1)));
	if (rows)
		sqlite3_reset(rows);
	return changed != TMS_OK ? changed : status == TMS_NOT_FOUND ? TMS_OK : status;
}

static TmsStatus run_request_begin(Ledger *ledger, LedgerJob *job)
{
	Request *request = job->argument;

	return ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_MAX_ID, ""), &request->last);
}

static TmsStatus run_request_end(Ledger *ledger, LedgerJob *job)
{
	const Request *request = job->argument;

	return ledger_meta_put(&ledger->write, "request_seen", request->id);
}

TmsStatus ledger_request_upload(Ledger *ledger, int64_t request_id, int64_t since, int64_t until)
{
	Request request = {.id = request_id, .since = since, .until = until};
	TmsStatus status = ledger_write(ledger, run_request_begin, &request);

	for (; status == TMS_OK && request.after < request.last; request.after += REQUEST_PIECE)
		status = ledger_write(ledger, run_request_piece, &request);
	return status == TMS_OK ? ledger_write(ledger, run_request_end, &request) : status;
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

	(*report_no)++;
	return status == TMS_OK ? ledger_meta_put(&ledger->write, "report_no", *report_no) : status;
}

TmsStatus ledger_next_report(Ledger *ledger, int64_t *report_no)
{
	*report_no = 0;
	return ledger_write(ledger, run_next_report, report_no);
}

static TmsStatus run_set_period(Ledger *ledger, LedgerJob *job)
{
	return ledger_meta_put(&ledger->write, "cleaning_period", *(const int64_t *) job->argument);
}

TmsStatus ledger_set_cleaning_period(Ledger *ledger, int64_t period)
{
	return ledger_write(ledger, run_set_period, &period);
}

/* --- cleaning --- */

static TmsStatus run_cleaning(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;

	TmsStatus status =
		ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_CLEANING, "i", change->id));

	return status == TMS_OK && sqlite3_changes(ledger->write.handle) == 0 ? TMS_NOT_FOUND : status;
}

TmsStatus ledger_cleaning(Ledger *ledger, int64_t id)
{
	Change change = {.id = id};

	return ledger_write(ledger, run_cleaning, &change);
}

static TmsStatus run_cleaned(Ledger *ledger, LedgerJob *job)
{
	const Change *change = job->argument;
	int64_t no, seq;
	TmsStatus status = find_place(ledger, change->id, &no, &seq);

	if (status == TMS_OK)
		status = ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_CLEANED, "i", change->id));
	return status == TMS_OK ? advance(ledger, no, SQL_LEDGER_NEXT_HELD, SQL_LEDGER_CLEANED_SEQ) : status;
}

TmsStatus ledger_cleaned(Ledger *ledger, int64_t id)
{
	Change change = {.id = id};

	return ledger_write(ledger, run_cleaned, &change);
}

typedef struct Trim
{
	int64_t before;
	int64_t dropped; /* in one piece */
} Trim;

/* Drops up to TRIM_PIECE entries of each ledger. */
static TmsStatus run_trim(Ledger *ledger, LedgerJob *job)
{
	Trim *trim = job->argument;
	LedgerDb *db = &ledger->write;
	sqlite3_stmt *ledgers = ledger_db_bind(db, SQL_LEDGER_UUIDS, "");
	TmsStatus status, dropped = TMS_OK;

	trim->dropped = 0;
	while ((status = ledger_db_step(db, ledgers)) == TMS_OK && dropped == TMS_OK)
	{
		int64_t no = sqlite3_column_int64(ledgers, 0), kept;

		dropped = ledger_db_int(db, ledger_db_bind(db, SQL_CAPTURE_FIRST_KEPT, "ii", no, trim->before), &kept);
		if (dropped == TMS_OK)
			dropped = ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_TRIM, "iii", no, kept, (int64_t) TRIM_PIECE));
		if (dropped == TMS_OK)
			trim->dropped += sqlite3_changes(db->handle);
	}
	if (ledgers)
		sqlite3_reset(ledgers);
	return dropped != TMS_OK ? dropped : status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_trim(Ledger *ledger, int64_t before, int64_t *dropped)
{
	Trim trim = {.before = before};
	TmsStatus status;

	*dropped = 0;
	do
	{
		status = ledger_write(ledger, run_trim, &trim);
		*dropped += status == TMS_OK ? trim.dropped : 0;
	} while (status == TMS_OK && trim.dropped > 0);
	return status;
}
