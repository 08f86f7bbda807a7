/*
 * What the ledger makes of a lost, damaged, forked or outdated ledger.db, of files that a crash left, and of a disk that
 * fails in the middle of a commit. Failures come from a layer below SQLite, which this file puts there.
 */
#include <sqlite3.h>
#include <sys/stat.h>

#include "agent/ledger_db.h"
#include "ledger_place.h"

/* --- a disk that fails on demand: SQLite's own file layer with a switch on sync and write of the write-ahead log --- */

static sqlite3_vfs *real_vfs;
static sqlite3_vfs failing_vfs;
static sqlite3_io_methods log_methods; /* of the log, with the two functions below in place */
static const sqlite3_io_methods *real_methods;
static int fail_syncs; /* so many of the next ones fail */
static int fail_writes;

static int fail_sync(sqlite3_file *file, int flags)
{
	if (fail_syncs > 0)
	{
		fail_syncs--;
		return SQLITE_IOERR_FSYNC;
	}
	return real_methods->xSync(file, flags);
}

static int fail_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
	if (fail_writes > 0)
	{
		fail_writes--;
		return SQLITE_FULL;
	}
	return real_methods->xWrite(file, data, len, at);
}

static int open_file(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out_flags)
{
	int code = real_vfs->xOpen(real_vfs, name, file, flags, out_flags);

	if (code == SQLITE_OK && (flags & SQLITE_OPEN_WAL))
	{
		real_methods = file->pMethods;
		log_methods = *file->pMethods;
		log_methods.xSync = fail_sync;
		log_methods.xWrite = fail_write;
		file->pMethods = &log_methods;
	}
	return code;
}

static int install_disk(void **state)
{
	real_vfs = sqlite3_vfs_find(NULL);
	failing_vfs = *real_vfs;
	failing_vfs.zName = "failing";
	failing_vfs.xOpen = open_file;
	return sqlite3_vfs_register(&failing_vfs, 1) == SQLITE_OK ? 0 : -1;
}

/* --- helpers --- */

static void lose_ledger(Place *place)
{
	close_place(place);
	in_place(place, "rm -f ledger.db ledger.db-wal ledger.db-shm");
	open_as(place, "unit-1", MACHINE);
}

/* How many entries the ledgers have in all. */
static int entries_in_all(Place *place)
{
	LedgerInfo infos[16];
	LedgerEntry entries[200];
	int ledgers, count, all = 0;

	assert_int_equal(ledger_list(place->ledger, infos, 16, &ledgers), TMS_OK);
	for (int i = 0; i < ledgers; i++)
	{
		assert_int_equal(ledger_read(place->ledger, &infos[i].ledger, 1, entries, 200, &count), TMS_OK);
		all += count;
	}
	return all;
}

/* Is the entry what it was, under this ledger and seq? */
static void found_again(Place *place, const LedgerEntry *was, const TmsUuid *uuid, int64_t seq)
{
	LedgerEntry now;

	assert_int_equal(ledger_get(place->ledger, uuid, seq, &now), TMS_OK);
	assert_string_equal(now.path, was->path);
	assert_memory_equal(now.sha256, was->sha256, TMS_SHA256_SIZE);
	assert_int_equal(now.bytes, was->bytes);
	assert_int_equal(now.taken_at, was->taken_at);
	assert_int_equal(now.record.captured_at, was->record.captured_at);
	assert_string_equal(now.record.plate, was->record.plate);
	assert_true(now.held);
	assert_int_equal(now.uploaded_at, 0);
	assert_true(in_cache(place, now.path));
}

static int count_files(const Place *place, const char *what)
{
	char command[200], text[32] = "";
	FILE *pipe;

	snprintf(command, sizeof command, "find '%s'/%s -type f -name '*.jpg' | wc -l", place->dir, what);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	assert_non_null(fgets(text, sizeof text, pipe));
	pclose(pipe);
	return atoi(text);
}

/* --- a lost or outdated ledger.db --- */

static void lost_ledger_is_made_again(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 70), entry;
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};
	LedgerCounts counts;

	lose_ledger(place);
	assert_int_equal(append(place, "meanwhile", &entry), TMS_OK);
	assert_int_equal(entry.seq, 1);
	assert_memory_not_equal(entry.ledger.bytes, old.bytes, TMS_UUID_SIZE);
	assert_true(wait_for_ledger(place, &old, &info));
	assert_true(info.sealed);
	assert_int_equal(info.last_seq, 70);
	assert_int_equal(info.confirmed, 0);
	assert_int_equal(info.uploaded_seq, 0);
	for (int i = 0; i < 70; i++)
		found_again(place, &entries[i], &old, i + 1);
	assert_int_equal(entries_in_all(place), 71);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.cached, 71);
	assert_int_equal(counts.upload_backlog, 71);
	free(entries);
}

/* The agent ends again and again before the cache was indexed. */
static void interrupted_indexing_goes_on(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 150);
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};

	lose_ledger(place);
	for (int i = 0; i < 10; i++)
		reopen(place);
	assert_true(wait_for_ledger(place, &old, &info));
	assert_int_equal(info.last_seq, 150);
	assert_int_equal(entries_in_all(place), 150);
	free(entries);
}

static void id_is_never_given_again(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 5), entry;

	lose_ledger(place);
	assert_int_equal(append(place, "afterwards", &entry), TMS_OK);
	assert_true(entry.id > entries[4].id);
	free(entries);
}

static void report_number_grows_over_a_loss(void **state)
{
	Place *place = *state;
	int64_t before, after;

	assert_int_equal(ledger_next_report(place->ledger, &before), TMS_OK);
	lose_ledger(place);
	assert_int_equal(ledger_next_report(place->ledger, &after), TMS_OK);
	assert_true(after > before);
}

static void forks_survive_a_loss(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 6), later[2];
	TmsUuid old = active(place).ledger, moved;
	LedgerInfo info = {0};

	assert_int_equal(ledger_fork(place->ledger, &old, 4), TMS_OK);
	moved = active(place).ledger;
	assert_int_equal(append(place, "later 1", &later[0]), TMS_OK);
	assert_int_equal(append(place, "later 2", &later[1]), TMS_OK);
	/* What the fork was named after is cleaned away. */
	assert_int_equal(cache_remove(place->cache, entries[3].path), TMS_OK);
	lose_ledger(place);
	assert_true(wait_for_ledger(place, &old, &info));
	assert_int_equal(info.last_seq, 3);
	assert_true(wait_for_ledger(place, &moved, &info));
	assert_int_equal(info.last_seq, 5);
	assert_int_equal(info.oldest_seq, 2);
	for (int i = 0; i < 3; i++)
		found_again(place, &entries[i], &old, i + 1);
	found_again(place, &entries[4], &moved, 2);
	found_again(place, &entries[5], &moved, 3);
	found_again(place, &later[0], &moved, 4);
	found_again(place, &later[1], &moved, 5);
	assert_int_equal(entries_in_all(place), 7);
	/* The path center says it again: there is nothing left to move. */
	assert_int_equal(ledger_fork(place->ledger, &old, 4), TMS_OK);
	assert_int_equal(entries_in_all(place), 7);
	free(entries);
}

static void went_back_in_time(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), later[3], entry;
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};

	assert_int_equal(ledger_confirm(place->ledger, &old, 2), TMS_OK);
	close_place(place);
	in_place(place, "cp ledger.db ../$(basename $PWD).old");
	open_as(place, "unit-1", MACHINE);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append(place, i == 0 ? "a" : i == 1 ? "b" : "c", &later[i]), TMS_OK);
	close_place(place);
	in_place(place, "rm -f ledger.db-*; mv ../$(basename $PWD).old ledger.db");
	open_as(place, "unit-1", MACHINE);
	assert_int_equal(append(place, "after going back", &entry), TMS_OK);
	assert_memory_not_equal(entry.ledger.bytes, old.bytes, TMS_UUID_SIZE);
	assert_true(wait_for_ledger(place, &old, &info));
	assert_true(info.sealed);
	assert_int_equal(info.last_seq, 6);
	assert_int_equal(info.confirmed, 2);
	for (int i = 0; i < 3; i++)
		found_again(place, &later[i], &old, 4 + i);
	assert_int_equal(entries_in_all(place), 7);
	/* Now all is in order: the next start changes nothing. */
	reopen(place);
	assert_memory_equal(active(place).ledger.bytes, entry.ledger.bytes, TMS_UUID_SIZE);
	free(entries);
}

static void damaged_file_is_replaced(void **state)
{
	static const char *const damages[] = {
		"printf 'no database' > ledger.db",
		"dd if=/dev/zero of=ledger.db bs=4096 seek=1 count=60 conv=notrunc status=none",
		"dd if=/dev/urandom of=ledger.db bs=1 seek=40 count=4000 conv=notrunc status=none",
		"dd if=/dev/zero of=ledger.db bs=1 seek=100 count=3996 conv=notrunc status=none",
		"truncate -s 9000 ledger.db",
	};
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 40);
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};

	for (size_t i = 0; i < sizeof damages / sizeof *damages; i++)
	{
		close_place(place);
		in_place(place, "rm -f ledger.db-*");
		in_place(place, damages[i]);
		open_as(place, "unit-1", MACHINE);
		assert_true(wait_for_ledger(place, &old, &info));
		assert_int_equal(info.last_seq, 40);
		assert_int_equal(entries_in_all(place), 40);
		in_place(place, "ls ledger.db.damaged-* >/dev/null && rm ledger.db.damaged-*");
	}
	free(entries);
}

/* SQLite finds damage while the agent runs: intake goes on at once, the rest comes back. */
static void damage_does_not_stop_intake(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 40), entry;
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};

	place->ledger->damaged = true;
	assert_int_equal(append(place, "right after", &entry), TMS_OK);
	assert_int_equal(entry.seq, 1);
	assert_memory_not_equal(entry.ledger.bytes, old.bytes, TMS_UUID_SIZE);
	assert_true(wait_for_ledger(place, &old, &info));
	for (int i = 0; i < 40; i++)
		found_again(place, &entries[i], &old, i + 1);
	assert_int_equal(entries_in_all(place), 41);
	free(entries);
}

/* An agent of older rules took these; row, note beside the file, and the row made of the note have them unchanged. */
static void older_records_are_kept(void **state)
{
	static const char *const attributes[] = {"{\"plate_box\":\"10,20,110,35\"}",
											 "{\"plate_box\":[10,20,0,35],\"a\":1}"};
	Place *place = *state;
	LedgerEntry entries[2], now;
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};

	for (int i = 0; i < 2; i++)
		assert_int_equal(append_attributes(place, i == 0 ? "a" : "b", attributes[i], NULL, &entries[i]), TMS_OK);
	for (int lost = 0; lost < 2; lost++)
	{
		for (int i = 0; i < 2; i++)
		{
			found_again(place, &entries[i], &old, i + 1);
			assert_int_equal(ledger_get(place->ledger, &old, i + 1, &now), TMS_OK);
			assert_string_equal(now.record.attributes, attributes[i]);
		}
		lose_ledger(place);
		assert_true(wait_for_ledger(place, &old, &info));
	}
}

/* --- files --- */

static void damaged_capture_goes_to_quarantine(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3);
	TmsUuid old = active(place).ledger;
	LedgerInfo info = {0};
	char command[300];

	snprintf(command, sizeof command, "printf x > cache/%s", entries[1].path);
	in_place(place, command);
	lose_ledger(place);
	assert_true(wait_for_ledger(place, &old, &info));
	assert_int_equal(entries_in_all(place), 2);
	assert_false(in_cache(place, entries[1].path));
	assert_int_equal(count_files(place, "quarantine"), 1);
	free(entries);
}

static void orphan_of_a_crash_is_set_aside(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 2), entry;
	uint8_t sha256[TMS_SHA256_SIZE] = {1, 2, 3, 4};
	char orphan[TMS_STORAGE_PATH_SIZE], command[900];

	assert_true(tms_storage_path_make(NOW, 3, tms_ledger_number(&entries[0].ledger), sha256, orphan));
	close_place(place);
	/* As after a kill between the rename and the commit; an old line names what was committed. */
	snprintf(command, sizeof command, "cp cache/%s cache/%s && printf '%%s\\n' %s %s > ledger.placing", entries[0].path,
			 orphan, entries[1].path, orphan);
	in_place(place, command);
	open_as(place, "unit-1", MACHINE);
	assert_false(in_cache(place, orphan));
	assert_true(in_cache(place, entries[1].path));
	assert_int_equal(count_files(place, "quarantine"), 1);
	assert_int_equal(append(place, "the third", &entry), TMS_OK);
	assert_int_equal(entry.seq, 3);
	free(entries);
}

static void stranger_in_the_way_is_set_aside(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 1), entry;
	uint8_t sha256[TMS_SHA256_SIZE];
	char path[TMS_STORAGE_PATH_SIZE], command[600];

	assert_true(tms_sha256("second", 6, sha256));
	assert_true(tms_storage_path_make(NOW, 2, tms_ledger_number(&entries[0].ledger), sha256, path));
	snprintf(command, sizeof command, "printf stranger > cache/%s", path);
	in_place(place, command);
	assert_int_equal(append(place, "second", &entry), TMS_OK);
	assert_string_equal(entry.path, path);
	assert_int_equal(count_files(place, "quarantine"), 1);
	free(entries);
}

/* --- a disk that fails --- */

static void failed_commit_is_settled(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 2), lost, entry;

	fail_syncs = 1;
	assert_int_equal(append(place, "not acknowledged", &lost), TMS_IO);
	/* Until it is known what became of it, the file stays. */
	assert_true(in_cache(place, lost.path));
	assert_int_equal(append(place, "the next", &entry), TMS_OK);
	assert_int_equal(entry.seq, 3);
	assert_false(in_cache(place, lost.path));
	reopen(place);
	assert_int_equal(active(place).last_seq, 3);
	assert_int_equal(entries_in_all(place), 3);
	assert_int_equal(count_files(place, "cache"), 3);
	free(entries);
}

/* A job in which SQLite gave the whole transaction up, as it does on some failures, and then says the status it was given. */
static TmsStatus lose_transaction(Ledger *ledger, LedgerJob *job)
{
	LedgerEntry entry;

	memset(&entry, 0, sizeof entry);
	record_init(&entry.record);
	entry.seq = ledger->active.last_seq + 1;
	assert_int_equal(ledger_insert(ledger, ledger->active.no, &entry), TMS_OK);
	assert_int_equal(sqlite3_exec(ledger->write.handle, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	return *(const TmsStatus *) job->argument;
}

/* Whatever the job says, none of its transaction holds and nobody is told that it does. */
static void lost_transaction_is_a_failure(void **state)
{
	static const TmsStatus said[] = {TMS_OK, TMS_EXISTS, TMS_CONFLICT, TMS_FULL};
	static const TmsStatus told[] = {TMS_IO, TMS_IO, TMS_IO, TMS_FULL};
	Place *place = *state;
	LedgerEntry entry;

	for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
	{
		TmsStatus status = said[i];

		assert_int_equal(ledger_write(place->ledger, lose_transaction, &status), told[i]);
		assert_int_equal(append(place, "goes on", &entry), TMS_OK);
		assert_int_equal(entry.seq, i + 1);
	}
	assert_int_equal(entries_in_all(place), sizeof said / sizeof said[0]);
}

/* The same capture comes again, as a sender does it: same bytes, same seq, same path. */
static void failed_capture_can_come_again(void **state)
{
	Place *place = *state;
	LedgerEntry entry, again;

	fail_syncs = 1;
	assert_int_equal(append(place, "again", &entry), TMS_IO);
	assert_int_equal(append(place, "again", &again), TMS_OK);
	assert_string_equal(again.path, entry.path);
	assert_true(in_cache(place, again.path));
	reopen(place);
	assert_int_equal(entries_in_all(place), 1);
	assert_true(in_cache(place, again.path));
}

static void full_disk_takes_nothing(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 2), entry;

	fail_writes = 1;
	assert_int_equal(append(place, "no room", &entry), TMS_FULL);
	fail_writes = 0;
	assert_int_equal(append(place, "room again", &entry), TMS_OK);
	assert_int_equal(entry.seq, 3);
	assert_int_equal(entries_in_all(place), 3);
	assert_int_equal(count_files(place, "cache"), 3);
	free(entries);
}

static void row_without_sense_is_set_aside(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), next[3];
	LedgerCounts counts;
	sqlite3 *db;
	char file[100];
	int count;

	snprintf(file, sizeof file, "%s/ledger.db", place->dir);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE capture SET sha256 = zeroblob(32) WHERE seq = 2", NULL, NULL, NULL),
					 SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(ledger_next_uploads(place->ledger, false, 0, next, 3, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(next[1].seq, 3);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.set_aside, 1);
	assert_int_equal(counts.upload_backlog, 2);
	free(entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lost_ledger_is_made_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(interrupted_indexing_goes_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(id_is_never_given_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(report_number_grows_over_a_loss, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forks_survive_a_loss, set_up, tear_down),
		cmocka_unit_test_setup_teardown(went_back_in_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damaged_file_is_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damage_does_not_stop_intake, set_up, tear_down),
		cmocka_unit_test_setup_teardown(older_records_are_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damaged_capture_goes_to_quarantine, set_up, tear_down),
		cmocka_unit_test_setup_teardown(orphan_of_a_crash_is_set_aside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stranger_in_the_way_is_set_aside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failed_commit_is_settled, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lost_transaction_is_a_failure, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failed_capture_can_come_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_disk_takes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(row_without_sense_is_set_aside, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("ledger_recover", tests, install_disk, NULL);
}
