/*
 * What the ledger looks at when it is opened: was it copied to another machine, did it go back in time, did a crash leave
 * anything? The files it goes by are described in ledger.c. When in doubt nothing is deleted: the cache is indexed again
 * (ledger_index.c), and captures are found there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define NOTED_FILE    "cache/.ledgers"
#define HIGH_FILE     "ledger.high"
#define PLACING_FILE  "ledger.placing"
#define CLEANING_MAX  1024
#define META_TEXT_MAX 128

/* --- the files beside ledger.db --- */

static void note_failed(const char *file)
{
	log_event(LOG_LEVEL_WARNING, "ledger", "file=%s error=\"%s\"", file, strerror(errno));
}

void ledger_note_high(Ledger *ledger)
{
	char uuid[TMS_UUID_TEXT_SIZE], line[80];
	int len;

	tms_uuid_format(&ledger->active.uuid, uuid);
	len = snprintf(line, sizeof line, "%s %10" PRId64 "\n", uuid, ledger->active.last_seq);
	if (pwrite(ledger->high, line, (size_t) len, 0) != len)
		note_failed(HIGH_FILE);
	ledger->placing_at = 0;
}

void ledger_note_placing(Ledger *ledger, const char *path)
{
	char line[TMS_STORAGE_PATH_SIZE + 1];
	int len = snprintf(line, sizeof line, "%s\n", path);

	if (ledger->placing_at == 0 && ftruncate(ledger->placing, 0) != 0)
		note_failed(PLACING_FILE);
	if (pwrite(ledger->placing, line, (size_t) len, ledger->placing_at) != len)
		note_failed(PLACING_FILE);
	ledger->placing_at += len;
}

/* Adds a line to the list of ledgers, durably. */
static TmsStatus note_ledger(Ledger *ledger, const TmsUuid *uuid)
{
	char line[TMS_UUID_TEXT_SIZE + 1];
	TmsStatus status = TMS_OK;
	int fd = openat(ledger->data, NOTED_FILE, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0)
	{
		note_failed(NOTED_FILE);
		return TMS_IO;
	}
	tms_uuid_format(uuid, line);
	line[TMS_UUID_TEXT_SIZE - 1] = '\n';
	if (write(fd, line, TMS_UUID_TEXT_SIZE) != TMS_UUID_TEXT_SIZE || fsync(fd) != 0)
	{
		note_failed(NOTED_FILE);
		status = TMS_IO;
	}
	close(fd);
	return status;
}

bool ledger_noted(Ledger *ledger, int32_t number, TmsUuid *out)
{
	int fd = openat(ledger->data, NOTED_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char line[80];
	bool found = false;

	while (file && !found && fgets(line, sizeof line, file))
		found = tms_uuid_parse(line, strcspn(line, "\n"), out) && tms_ledger_number(out) == number;
	if (file)
		fclose(file);
	return found;
}

TmsStatus ledger_add(Ledger *ledger, const TmsUuid *uuid, bool sealed, bool building, int64_t *no)
{
	TmsUuid made;
	TmsStatus status;

	if (uuid)
		made = *uuid;
	else if (!tms_uuid_random(&made))
		return TMS_IO;
	status = note_ledger(ledger, &made);
	if (status == TMS_OK)
		status = ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_LEDGER_NEW, "bii", made.bytes,
															  TMS_UUID_SIZE, (int64_t) sealed, (int64_t) building));
	if (status == TMS_OK)
		*no = sqlite3_last_insert_rowid(ledger->write.handle);
	return status;
}

/* --- what the ledger remembers as text --- */

static bool meta_text(Ledger *ledger, const char *name, char out[META_TEXT_MAX])
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_META_GET, "t", name);
	bool found = ledger_db_step(&ledger->write, statement) == TMS_OK && sqlite3_column_text(statement, 0);

	if (found)
		snprintf(out, META_TEXT_MAX, "%s", (const char *) sqlite3_column_text(statement, 0));
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
	char stored[META_TEXT_MAX];

	return meta_text(ledger, name, stored) && strcmp(stored, value) != 0;
}

/* Which start of the machine this is; "" when the system does not say. */
static void read_boot_id(char out[META_TEXT_MAX])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!file || !fgets(out, META_TEXT_MAX, file))
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (file)
		fclose(file);
}

void ledger_note_closed(Ledger *ledger)
{
	if (ledger_meta_put(&ledger->write, "closed", 1) != TMS_OK)
		note_failed("ledger.db");
}

/* --- looking --- */

/* Did the ledger lose what it had committed? Also when ledger.high is not there to tell. */
static bool went_back(Ledger *ledger)
{
	char line[80] = "", *space;
	sqlite3_stmt *rows;
	bool found = false, behind = true;
	TmsUuid uuid;

	if (pread(ledger->high, line, sizeof line - 1, 0) <= 0 || (space = strchr(line, ' ')) == NULL ||
		!tms_uuid_parse(line, (size_t) (space - line), &uuid))
		return ledger->active.last_seq > 0;
	rows = ledger_db_bind(&ledger->write, SQL_LEDGER_UUIDS, "");
	while (!found && ledger_db_step(&ledger->write, rows) == TMS_OK)
	{
		found = memcmp(sqlite3_column_blob(rows, 1), uuid.bytes, TMS_UUID_SIZE) == 0;
		behind = sqlite3_column_int64(rows, 2) < strtoll(space, NULL, 10);
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

/* Removes files that were placed for a transaction which never committed. */
static void remove_orphans(Ledger *ledger)
{
	int fd = fcntl(ledger->placing, F_DUPFD_CLOEXEC, 0);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char path[TMS_STORAGE_PATH_SIZE + 2];
	TmsStoragePathParts parts;

	if (!file)
		return;
	rewind(file);
	while (fgets(path, sizeof path, file))
	{
		path[strcspn(path, "\n")] = '\0';
		if (tms_storage_path_valid(path, strlen(path)) && tms_storage_path_parse(path, &parts) &&
			parts.ledger_no == tms_ledger_number(&ledger->active.uuid) && parts.seq > ledger->active.last_seq &&
			cache_remove(ledger->cache, path) == TMS_OK)
			log_event(LOG_LEVEL_INFO, "orphan_removed", "path=%s reason=\"never acknowledged\"", path);
	}
	fclose(file);
}

/* Ends deletions that a crash cut short: what is gone is gone, what is still there stays. */
static TmsStatus finish_cleaning(Ledger *ledger)
{
	LedgerDb *db = &ledger->write;
	TmsStatus status = TMS_OK;
	int64_t id = 0;

	for (int i = 0; i < CLEANING_MAX && status == TMS_OK; i++)
	{
		sqlite3_stmt *rows = ledger_db_bind(db, SQL_CAPTURE_LIST_CLEANING, "i", INT64_C(1));
		LedgerEntry entry;
		int64_t size;
		int fd;

		status = ledger_db_step(db, rows);
		if (status == TMS_OK)
		{
			id = sqlite3_column_int64(rows, 0);
			if (ledger_entry_of(rows, &entry) && cache_read(ledger->cache, entry.path, &fd, &size) == TMS_OK)
				close(fd);
			else
				fd = -1;
		}
		if (rows)
			sqlite3_reset(rows);
		if (status == TMS_OK)
			status = ledger_db_run(
				db, ledger_db_bind(db, fd >= 0 ? SQL_CAPTURE_NOT_CLEANING : SQL_CAPTURE_CLEANED, "i", id));
	}
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

/* Seals what there is and begins a new ledger. */
static TmsStatus begin_new(Ledger *ledger, bool building, const char *why)
{
	LedgerDb *db = &ledger->write;
	int64_t no;
	TmsStatus status =
		ledger_db_run(db, ledger_db_bind(db, building ? SQL_LEDGER_SEAL_BUILDING : SQL_LEDGER_SEAL_ALL, ""));

	if (status == TMS_OK)
		status = ledger_add(ledger, NULL, false, false, &no);
	if (status == TMS_OK)
		status = ledger_load_active(ledger);
	if (status == TMS_OK)
		log_event(LOG_LEVEL_INFO, "ledger_begun", "reason=\"%s\"", why);
	return status;
}

/* What this start of the agent is, for the next one. */
static TmsStatus remember(Ledger *ledger, const char *device, const char *machine_id, const char *boot_id)
{
	TmsStatus status = put_meta_text(ledger, "device", device);

	if (status == TMS_OK)
		status = put_meta_text(ledger, "machine_id", machine_id);
	if (status == TMS_OK)
		status = put_meta_text(ledger, "boot_id", boot_id);
	return status == TMS_OK ? ledger_meta_put(&ledger->write, "closed", 0) : status;
}

/* One transaction: which ledgers there are after this start. */
static TmsStatus choose_active(Ledger *ledger, const char *device, const char *machine_id, bool fresh, bool *index)
{
	LedgerDb *db = &ledger->write;
	char boot_id[META_TEXT_MAX];
	int64_t closed = 0, building = 0;
	bool power_cut;
	TmsStatus status = ledger_db_int(db, ledger_db_bind(db, SQL_LEDGER_ANY_BUILDING, ""), &building);

	read_boot_id(boot_id);
	if (status == TMS_OK)
		status = ledger_meta_get(db, "closed", &closed);
	power_cut = !closed && meta_differs(ledger, "boot_id", boot_id);
	*index = building > 0 || power_cut;
	if (status != TMS_OK)
		return status;
	if (fresh || ledger->active.no == 0)
	{
		status = cache_walk(ledger->cache, 0, any_file, index);
		if (status == TMS_OK || status == TMS_EXISTS)
			status = begin_new(ledger, false, *index ? "no ledger beside a full cache" : "first start");
	}
	else if (went_back(ledger))
	{
		*index = true;
		status = begin_new(ledger, true, "the ledger went back in time");
	}
	else
	{
		remove_orphans(ledger);
		if (meta_differs(ledger, "device", device) || meta_differs(ledger, "machine_id", machine_id))
			status = begin_new(ledger, false, "the disk was copied or moved to another device");
	}
	return status == TMS_OK ? remember(ledger, device, machine_id, boot_id) : status;
}

TmsStatus ledger_recover(Ledger *ledger, const char *device, const char *machine_id, bool fresh, bool *index)
{
	LedgerDb *db = &ledger->write;
	const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
	TmsStatus status;

	ledger->high = openat(ledger->data, HIGH_FILE, flags, 0640);
	ledger->placing = openat(ledger->data, PLACING_FILE, flags, 0640);
	if (ledger->high < 0 || ledger->placing < 0)
	{
		note_failed(HIGH_FILE);
		return TMS_IO;
	}
	status = ledger_db_run(db, ledger_db_bind(db, SQL_BEGIN, ""));
	if (status == TMS_OK)
		status = finish_cleaning(ledger);
	if (status == TMS_OK)
		status = choose_active(ledger, device, machine_id, fresh, index);
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_COMMIT, ""));
	if (status == TMS_OK)
		ledger_note_high(ledger);
	return status;
}
