/*
 * Looking at a ledger.db; see ledger_view.h. A connection of its own that only reads: SQLite keeps it apart from the agent's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "ledger_view.h"

struct LedgerView
{
	LedgerDb db;
	atomic_bool damaged;
	LedgerElapsed elapsed;
};

TmsStatus ledger_view_open(const char *data_dir, LedgerView **out)
{
	LedgerView *view = calloc(1, sizeof *view);
	char file[4200];
	TmsStatus status;

	if (!view)
		return TMS_MEMORY;
	snprintf(file, sizeof file, "%s/ledger.db", data_dir);
	status = ledger_db_open(&view->db, file, LEDGER_DB_VIEW, &view->damaged);
	if (status == TMS_OK)
		status = ledger_elapsed_read(&view->db, &view->elapsed);
	if (status != TMS_OK)
	{
		ledger_view_close(view);
		return status;
	}
	*out = view;
	return TMS_OK;
}

void ledger_view_close(LedgerView *view)
{
	if (view->db.handle)
		ledger_db_close(&view->db);
	free(view);
}

int64_t ledger_view_period(LedgerView *view)
{
	int64_t period = 0;

	return ledger_meta_get(&view->db, "cleaning_period", &period) == TMS_OK ? period : 0;
}

static void copy_text(sqlite3_stmt *row, int column, char *out, size_t size)
{
	const char *text = (const char *) sqlite3_column_text(row, column);

	snprintf(out, size, "%s", text ? text : "");
}

/* Takes what is behind the entry's columns, in the order of SQL_STORY. */
static void take_receipts(sqlite3_stmt *row, LedgerStory *story)
{
	int at = LEDGER_ENTRY_COLUMNS;

	story->sealed = sqlite3_column_int64(row, at++) != 0;
	story->building = sqlite3_column_int64(row, at++) != 0;
	story->confirmed = sqlite3_column_int64(row, at++);
	story->verified = (LedgerVerified) sqlite3_column_int64(row, at++);
	story->missing_at = sqlite3_column_int64(row, at++);
	copy_text(row, at++, story->missing, sizeof story->missing);
	copy_text(row, at++, story->aside, sizeof story->aside);
	story->cleaning = sqlite3_column_int64(row, at++) != 0;
	story->cleaned_at = sqlite3_column_int64(row, at++);
	story->early = sqlite3_column_int64(row, at++) != 0;
	copy_text(row, at++, story->receipt, sizeof story->receipt);
	story->confirmed_at = sqlite3_column_int64(row, at++);
	story->report_no = sqlite3_column_int64(row, at++);
	if (story->entry.seq > story->confirmed)
		story->confirmed_at = story->report_no = 0;
}

static TmsStatus read_story(LedgerView *view, int64_t id, LedgerStory *story)
{
	sqlite3_stmt *row = ledger_db_bind(&view->db, SQL_STORY, "i", id);
	TmsStatus status = ledger_db_step(&view->db, row);
	int64_t marked;

	memset(story, 0, sizeof *story);
	if (status == TMS_OK)
	{
		if (!ledger_entry_of(row, &story->entry))
			status = TMS_DAMAGED;
		take_receipts(row, story);
	}
	if (row)
		sqlite3_reset(row);
	if (status != TMS_OK)
		return status;
	status = ledger_db_int(&view->db, ledger_db_bind(&view->db, SQL_MARK_OF, "i", id), &marked);
	story->age = status == TMS_OK ? view->elapsed.base - marked : -1;
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

/* Is this ledger among those asked for? */
static bool wanted(const LedgerQuestion *question, sqlite3_stmt *row)
{
	TmsUuid uuid;

	if (sqlite3_column_bytes(row, 1) != TMS_UUID_SIZE)
		return false;
	memcpy(uuid.bytes, sqlite3_column_blob(row, 1), TMS_UUID_SIZE);
	return (!question->has_number || tms_ledger_number(&uuid) == question->number) &&
		   (!question->has_uuid || memcmp(&uuid, &question->uuid, sizeof uuid) == 0);
}

/* Ids of the captures asked for. */
static TmsStatus find_ids(LedgerView *view, const LedgerQuestion *question, int64_t *ids, int max, int *count)
{
	sqlite3_stmt *rows;
	TmsStatus status;

	*count = 0;
	if (question->path)
	{
		status = ledger_find_path(&view->db, question->path, &ids[0]);
		*count = status == TMS_OK;
		return status == TMS_NOT_FOUND ? TMS_OK : status;
	}
	rows = ledger_db_bind(&view->db, SQL_STORY_SEQ, "i", question->seq);
	while ((status = ledger_db_step(&view->db, rows)) == TMS_OK && *count < max)
		if (wanted(question, rows))
			ids[(*count)++] = sqlite3_column_int64(rows, 0);
	if (rows)
		sqlite3_reset(rows);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus ledger_view_find(LedgerView *view, const LedgerQuestion *question, LedgerStory *out, int max, int *count)
{
	int64_t *ids = calloc((size_t) max, sizeof *ids);
	TmsStatus status = ids ? find_ids(view, question, ids, max, count) : TMS_MEMORY;

	for (int i = 0; status == TMS_OK && i < *count; i++)
		status = read_story(view, ids[i], &out[i]);
	free(ids);
	return status;
}
