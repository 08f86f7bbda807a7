/*
 * What the ledger looks at when a ledger.db is opened: was it copied to another machine, did it go back in time, is it new
 * beside a full cache, did a crash leave anything? The files it goes by are described in ledger.c. When in doubt nothing is
 * deleted: the cache is indexed again (ledger_index.c), and captures are found there.
 *
 * Invariants
 *  - All of it is one transaction: a crash in the middle leaves things as they were found.
 *  - That the cache is to be indexed is written down (meta "index") in that transaction and stays so until it was done.
 *  - A new ledger is begun, and never an old one gone on with, when the last seq given may not be known: a seq given twice
 *    would be two captures under one id.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

/* How much the clock may have been set back between a commit and the next file, for a walk over what changed since. */
#define CLOCK_SLACK (86400 * CLOCK_SECOND)

#define MACHINE_UNKNOWN "unknown" /* what machine_id_read says */

TmsStatus ledger_add(Ledger *ledger, const TmsUuid *uuid, bool sealed, bool building, int64_t *no)
{
	TmsUuid made;
	TmsStatus status;

	if (uuid)
		made = *uuid;
	else if (!tms_uuid_random(&made))
		return TMS_IO;
	status = ledger_note_ledger(ledger, &made);
	if (status == TMS_OK)
		status = ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_NEW, "bii", made.bytes,
															  TMS_UUID_SIZE, (int64_t) sealed, (int64_t) building));
	if (status == TMS_OK)
		*no = sqlite3_last_insert_rowid(ledger->write.handle);
	return status;
}

/* --- what the ledger remembers as text --- */

static bool meta_text(Ledger *ledger, const char *name, char out[LEDGER_META_TEXT])
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_META_GET, "t", name);
	bool found = ledger_db_step(&ledger->write, statement) == TMS_OK && sqlite3_column_text(statement, 0);

	if (found)
		snprintf(out, LEDGER_META_TEXT, "%s", (const char *) sqlite3_column_text(statement, 0));
	if (statement)
		sqlite3_reset(statement);
	return found;
}

static TmsStatus put_meta_text(Ledger *ledger, const char *name, const char *value)
{
	return ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_META_PUT, "tt", name, value));
}

static bool meta_differs(Ledger *ledger, const char *name, const char *value)
{
	char stored[LEDGER_META_TEXT];

	return meta_text(ledger, name, stored) && strcmp(stored, value) != 0;
}

/* Was the disk put into another machine, or under another name? What is not known is no difference. */
static bool was_copied(Ledger *ledger)
{
	char stored[LEDGER_META_TEXT];

	if (meta_differs(ledger, "device", ledger->device))
		return true;
	return meta_text(ledger, "machine_id", stored) && strcmp(stored, MACHINE_UNKNOWN) != 0 &&
		   strcmp(ledger->machine_id, MACHINE_UNKNOWN) != 0 && strcmp(stored, ledger->machine_id) != 0;
}

/* Which start of the machine this is; "" when the system does not say. */
static void read_boot_id(char out[LEDGER_META_TEXT])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!file || !fgets(out, LEDGER_META_TEXT, file))
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (file)
		fclose(file);
}

/* What this start of the agent is, for the next one. */
static TmsStatus remember(Ledger *ledger, const char *boot_id)
{
	TmsStatus status = put_meta_text(ledger, "device", ledger->device);

	if (status == TMS_OK && strcmp(ledger->machine_id, MACHINE_UNKNOWN) != 0)
		status = put_meta_text(ledger, "machine_id", ledger->machine_id);
	if (status == TMS_OK)
		status = put_meta_text(ledger, "boot_id", boot_id);
	return status == TMS_OK ? ledger_meta_put(&ledger->write, "closed", 0) : status;
}

/* --- looking --- */

/*
 * Did ledger.db lose what it had committed? Also when ledger.high is not there to tell. A sealed ledger took nothing after
 * it was sealed: what is noted of it is from before that.
 */
static bool went_back(Ledger *ledger, int64_t *written_at)
{
	TmsUuid uuid;
	int64_t seq;
	sqlite3_stmt *rows;
	bool found = false, behind = false;

	if (!ledger_noted_high(ledger, &uuid, &seq, written_at))
		return true;
	rows = ledger_db_bind(&ledger->write, SQL_LEDGER_UUIDS, "");
	while (!found && ledger_db_step(&ledger->write, rows) == TMS_OK)
		if (sqlite3_column_bytes(rows, 1) == TMS_UUID_SIZE &&
			memcmp(sqlite3_column_blob(rows, 1), uuid.bytes, TMS_UUID_SIZE) == 0)
		{
			found = true;
			behind = sqlite3_column_int64(rows, 2) < seq && sqlite3_column_int64(rows, 3) == 0;
		}
	if (rows)
		sqlite3_reset(rows);
	return !found || behind;
}

static TmsStatus any_file(void *state, const char *path, const TmsStoragePathParts *parts)
{
	*(bool *) state = true;
	return TMS_EXISTS;
}

/* A file that was placed for a transaction which never committed. Nobody was told of it, but it is not deleted either. */
static void set_orphan_aside(Ledger *ledger, const char *path)
{
	TmsStoragePathParts parts;

	if (!tms_storage_path_parse(path, &parts) || parts.ledger_no != tms_ledger_number(&ledger->active.uuid) ||
		parts.seq <= ledger->active.last_seq)
		return;
	if (cache_set_aside(ledger->cache, path, "not acknowledged: the agent was killed before it was committed") ==
		TMS_OK)
		log_event(LOG_LEVEL_INFO, "orphan_set_aside", "path=%s reason=\"never acknowledged\"", path);
}

/* Ends deletions that a crash cut short: what is gone is gone, what is still there stays. */
static TmsStatus finish_cleaning(Ledger *ledger)
{
	LedgerDb *db = &ledger->write;
	TmsStatus status = TMS_OK;
	int64_t id = 0;

	while (status == TMS_OK)
	{
		sqlite3_stmt *row = ledger_db_bind(db, SQL_CAPTURE_LIST_CLEANING, "i", id);
		char path[TMS_STORAGE_PATH_SIZE] = "";
		TmsStatus file;
		int64_t size;
		int fd;

		status = ledger_db_step(db, row);
		if (status == TMS_OK)
		{
			id = sqlite3_column_int64(row, 0);
			snprintf(path, sizeof path, "%s", (const char *) sqlite3_column_text(row, 1));
		}
		if (row)
			sqlite3_reset(row);
		if (status != TMS_OK)
			break;
		file = cache_read(ledger->cache, path, &fd, &size);
		if (file == TMS_OK)
			close(fd);
		status =
			ledger_db_run(db, file == TMS_NOT_FOUND ? ledger_db_bind(db, SQL_CAPTURE_CLEANED, "ii", id, clock_now())
													: ledger_db_bind(db, SQL_CAPTURE_NOT_CLEANING, "i", id));
	}
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

/* Seals what there is and begins a new ledger. */
static TmsStatus begin_new(Ledger *ledger, const char *why)
{
	LedgerDb *db = &ledger->write;
	int64_t no;
	TmsStatus status = ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_SEAL_ALL, ""));

	if (status == TMS_OK)
		status = ledger_add(ledger, NULL, false, false, &no);
	if (status == TMS_OK)
		status = ledger_load_active(ledger);
	if (status == TMS_OK)
		log_event(LOG_LEVEL_INFO, "ledger_begun", "reason=\"%s\"", why);
	return status;
}

/*
 * Has the cache to be indexed, from folders changed at `since` (0: from the beginning) on? Writes it down. Until that is
 * done sealed ledgers are not reported: a capture that comes to light later would have been reported as gone.
 */
static TmsStatus want_index(Ledger *ledger, int64_t since)
{
	LedgerDb *db = &ledger->write;
	int64_t pending = 0, earlier = 0;
	TmsStatus status = ledger_meta_get(db, "index", &pending);

	if (status == TMS_OK)
		status = ledger_meta_get(db, "index_since", &earlier);
	if (status == TMS_OK)
		status = ledger_meta_put(db, "index_since", pending && earlier < since ? earlier : since);
	if (status == TMS_OK)
		status = ledger_meta_put(db, "index", 1);
	return status == TMS_OK ? ledger_db_run(db, ledger_db_bind(db, SQL_LEDGER_BUILD, "")) : status;
}

/* Which ledgers there are after this start, and whether the cache holds what they do not know. */
static TmsStatus choose_active(Ledger *ledger, bool fresh)
{
	char boot_id[LEDGER_META_TEXT];
	int64_t closed = 0, written_at = 0;
	bool files = false, power_cut;
	TmsStatus status = ledger_meta_get(&ledger->write, "closed", &closed);

	read_boot_id(boot_id);
	power_cut = !closed && meta_differs(ledger, "boot_id", boot_id);
	if (status == TMS_OK && (fresh || ledger->active.no == 0))
	{
		status = cache_walk(ledger->cache, 0, any_file, &files);
		if (status == TMS_OK || status == TMS_EXISTS)
			status = begin_new(ledger, files ? "no ledger beside a full cache" : "first start");
		if (status == TMS_OK && files)
			status = want_index(ledger, 0);
	}
	else if (status == TMS_OK && went_back(ledger, &written_at))
	{
		status = begin_new(ledger, "the ledger went back in time");
		if (status == TMS_OK)
			status = want_index(ledger, 0);
	}
	else if (status == TMS_OK)
	{
		ledger_noted_placing(ledger, set_orphan_aside);
		if (was_copied(ledger))
			status = begin_new(ledger, "the disk was copied or moved to another device");
		/* ledger.placing is not synced: after a power cut it may not tell of all files that were placed. */
		if (status == TMS_OK && power_cut)
			status = want_index(ledger, written_at > CLOCK_SLACK ? written_at - CLOCK_SLACK : 1);
	}
	return status == TMS_OK ? remember(ledger, boot_id) : status;
}

TmsStatus ledger_recover(Ledger *ledger, bool fresh)
{
	LedgerDb *db = &ledger->write;
	int64_t pending = 0;
	TmsStatus status = ledger_load_active(ledger);

	if (status == TMS_OK || status == TMS_NOT_FOUND)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_BEGIN, ""));
	/* So that an id of a ledger.db that was lost is never given again. */
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_START_IDS, "i", clock_now()));
	if (status == TMS_OK)
		status = ledger_key_start(ledger);
	if (status == TMS_OK)
		status = ledger_elapsed_load(ledger);
	if (status == TMS_OK)
		status = finish_cleaning(ledger);
	if (status == TMS_OK)
		status = choose_active(ledger, fresh);
	if (status == TMS_OK)
		status = ledger_meta_get(db, "index", &pending);
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_COMMIT, ""));
	if (status != TMS_OK)
		return status;
	ledger_note_high(ledger);
	if (fsync(ledger->high) != 0 || fsync(ledger->data) != 0)
		log_event(LOG_LEVEL_WARNING, "ledger", "file=ledger.high error=\"%s\"", strerror(errno));
	if (pending)
		eventfd_write(ledger->index_wanted, 1);
	return TMS_OK;
}
