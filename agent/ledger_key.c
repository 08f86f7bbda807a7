/*
 * Keys under which senders hand captures over, and what they were answered: a request sent again gets the first answer.
 *
 * The answer is kept in full, apart from the capture's row: that moves when the ledger forks, and is dropped one day.
 *
 * The age of a key is counted in time during which the agent ran, by the steady clock, so no step of the clock makes a key
 * expire early or never; while the agent is down no key grows older. intake_key.at is that time; a start takes it up where
 * the youngest key left it.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"

static int64_t key_time(const Ledger *ledger)
{
	return clock_steady() - ledger->key_base;
}

TmsStatus ledger_key_start(Ledger *ledger)
{
	int64_t last = 0;
	TmsStatus status = ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, SQL_KEY_LAST, ""), &last);

	ledger->key_base = clock_steady() - last - 1;
	return status;
}

TmsStatus ledger_key_find(Ledger *ledger, const char *key, LedgerEntry *entry)
{
	LedgerDb *db = &ledger->write;
	sqlite3_stmt *row = ledger_db_bind(db, SQL_KEY_FIND, "ti", key, key_time(ledger) - LEDGER_KEY_TIME);
	TmsStatus status = ledger_db_step(db, row);

	if (status == TMS_OK &&
		(sqlite3_column_bytes(row, 1) != TMS_UUID_SIZE || sqlite3_column_type(row, 3) != SQLITE_TEXT ||
		 sqlite3_column_bytes(row, 4) != TMS_SHA256_SIZE))
		status = TMS_NOT_FOUND; /* damaged: a capture twice is better than none */
	if (status == TMS_OK)
	{
		status = memcmp(sqlite3_column_blob(row, 4), entry->sha256, TMS_SHA256_SIZE) == 0 ? TMS_EXISTS : TMS_CONFLICT;
		entry->id = sqlite3_column_int64(row, 0);
		memcpy(entry->ledger.bytes, sqlite3_column_blob(row, 1), TMS_UUID_SIZE);
		entry->seq = sqlite3_column_int64(row, 2);
		snprintf(entry->path, sizeof entry->path, "%s", (const char *) sqlite3_column_text(row, 3));
		memcpy(entry->sha256, sqlite3_column_blob(row, 4), TMS_SHA256_SIZE);
	}
	if (row)
		sqlite3_reset(row);
	return status;
}

TmsStatus ledger_key_put(Ledger *ledger, const char *key, const LedgerEntry *entry)
{
	LedgerDb *db = &ledger->write;
	int64_t now = key_time(ledger);
	TmsStatus status =
		ledger_db_run(db, ledger_db_bind(db, SQL_KEY_PUT, "tiibitb", key, entry->id, now, entry->ledger.bytes,
										 TMS_UUID_SIZE, entry->seq, entry->path, entry->sha256, TMS_SHA256_SIZE));

	if (status != TMS_OK)
		return status;
	return ledger_db_run(db, ledger_db_bind(db, SQL_KEY_DROP, "ii", entry->id - LEDGER_KEYS, now - LEDGER_KEY_TIME));
}
