/*
 * Forks: the path center holds other captures from some seq on, so what this disk has there goes on under another ledger.
 */
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

typedef struct Fork
{
	const TmsUuid *uuid;
	int64_t from;
} Fork;

/* One ledger's row. */
typedef struct Row
{
	int64_t no;
	bool sealed;
	int64_t last_seq;
} Row;

static TmsStatus find_ledger(Ledger *ledger, const TmsUuid *uuid, Row *row)
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_LEDGER_BY_UUID, "b", uuid->bytes, TMS_UUID_SIZE);
	TmsStatus status = ledger_db_step(&ledger->write, statement);

	if (status == TMS_OK)
	{
		row->no = sqlite3_column_int64(statement, 0);
		row->sealed = sqlite3_column_int64(statement, 1) != 0;
		row->last_seq = sqlite3_column_int64(statement, 2);
	}
	if (statement)
		sqlite3_reset(statement);
	return status;
}

/* The first entry that is to move: its seq and digest. */
static TmsStatus first_to_move(Ledger *ledger, int64_t no, int64_t from, int64_t *seq, uint8_t sha256[TMS_SHA256_SIZE])
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_CAPTURE_FIRST_FROM, "ii", no, from);
	TmsStatus status = ledger_db_step(&ledger->write, statement);

	if (status == TMS_OK)
	{
		*seq = sqlite3_column_int64(statement, 0);
		if (sqlite3_column_bytes(statement, 1) == TMS_SHA256_SIZE)
			memcpy(sha256, sqlite3_column_blob(statement, 1), TMS_SHA256_SIZE);
		else
			status = TMS_DAMAGED;
	}
	if (statement)
		sqlite3_reset(statement);
	return status;
}

/*
 * The ledger of that UUID, made when there is none: as the active one when the forked one was that. One that is there
 * already stays sealed: it comes from a ledger.db that was lost or a disk that was put back, and its last seq may not be known.
 */
static TmsStatus find_or_add(Ledger *ledger, const TmsUuid *uuid, const Row *from, Row *row)
{
	TmsStatus status = find_ledger(ledger, uuid, row);

	if (status != TMS_NOT_FOUND)
		return status;
	*row = (Row){.sealed = from->sealed};
	return ledger_add(ledger, uuid, row->sealed, false, &row->no);
}

/* Moves the entries from `first` on behind those of another ledger. */
static TmsStatus move_entries(Ledger *ledger, const Fork *fork, const Row *from, int64_t first, const TmsUuid *uuid,
							  const Row *to)
{
	LedgerDb *db = &ledger->write;
	TmsStatus status = ledger_note_fork(ledger, fork->uuid, first, uuid, to->last_seq);

	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_NOTE_MOVED, "ii", from->no, first));
	if (status == TMS_OK)
		status =
			ledger_db_run(db, ledger_db_bind(db, SQL_CAPTURE_MOVE, "iiii", from->no, first, to->no, to->last_seq + 1));
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_FORK_TO, "iii", to->no, (int64_t) to->sealed,
												  to->last_seq + from->last_seq - first + 1));
	return status;
}

static TmsStatus run_fork(Ledger *ledger, LedgerJob *job)
{
	const Fork *fork = job->argument;
	LedgerDb *db = &ledger->write;
	uint8_t sha256[TMS_SHA256_SIZE];
	int64_t first = 0;
	TmsUuid uuid;
	Row from, to = {.sealed = true};
	TmsStatus status = find_ledger(ledger, fork->uuid, &from), found;

	if (status != TMS_OK)
		return status;
	if (fork->from < 1 || fork->from > from.last_seq)
		return TMS_OK; /* done already */
	found = first_to_move(ledger, from.no, fork->from, &first, sha256);
	if (found != TMS_OK && found != TMS_NOT_FOUND)
		return found;
	/* What was the active one is so no more, before another takes its place. */
	status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_FORKED, "ii", from.no, fork->from));
	if (status == TMS_OK && found == TMS_OK)
	{
		if (!tms_ledger_fork_uuid(fork->uuid, fork->from, sha256, &uuid))
			return TMS_MEMORY;
		status = find_or_add(ledger, &uuid, &from, &to);
		if (status == TMS_OK)
			status = move_entries(ledger, fork, &from, first, &uuid, &to);
	}
	if (status == TMS_OK && to.sealed && !from.sealed)
		status = ledger_add(ledger, NULL, false, false, &to.no);
	return status == TMS_OK ? ledger_load_active(ledger) : status;
}

TmsStatus ledger_fork(Ledger *ledger, const TmsUuid *uuid, int64_t from)
{
	Fork fork = {uuid, from};
	char text[TMS_UUID_TEXT_SIZE];
	TmsStatus status = ledger_write(ledger, run_fork, &fork);

	tms_uuid_format(uuid, text);
	if (status == TMS_OK)
		log_event(LOG_LEVEL_WARNING, "ledger_forked", "ledger=%s from=%lld", text, (long long) from);
	return status;
}
