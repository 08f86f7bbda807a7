/*
 * agent/ledger_clean.c, ledger_elapsed.c and ledger_schema.h: cleaning periods, time that has passed, and older ledgers.
 */
#include "ledger_place.h"

#include <sqlite3.h>

#include "agent/clock.h"
#include "agent/ledger_db.h"
#include "agent/ledger_schema.h"

#define DAY (24 * HOUR)

/* Offers a period and expects what becomes of it. */
static void offer(Place *place, int64_t period, int64_t wait, LedgerPeriod expected)
{
	LedgerPeriod answer;

	assert_int_equal(ledger_offer_period(place->ledger, period, wait, &answer), TMS_OK);
	assert_int_equal(answer, expected);
}

static void shortens_only_when_told_twice(void **state)
{
	Place *place = *state;

	assert_int_equal(ledger_cleaning_period(place->ledger), 0);
	offer(place, 7 * DAY, 0, LEDGER_PERIOD_OFFERED);
	assert_int_equal(ledger_cleaning_period(place->ledger), 0); /* the first one ever counts as a shorter one */
	offer(place, 7 * DAY, 0, LEDGER_PERIOD_TAKEN);
	assert_int_equal(ledger_cleaning_period(place->ledger), 7 * DAY);
	offer(place, 7 * DAY, 0, LEDGER_PERIOD_SAME);
	offer(place, 9 * DAY, 0, LEDGER_PERIOD_TAKEN); /* a longer one at once */
	assert_int_equal(ledger_cleaning_period(place->ledger), 9 * DAY);

	/* A mistake that is put right before it was told again never counts. */
	offer(place, HOUR, 0, LEDGER_PERIOD_OFFERED);
	offer(place, 9 * DAY, 0, LEDGER_PERIOD_SAME);
	offer(place, HOUR, 0, LEDGER_PERIOD_OFFERED);
	/* Nor do two that differ, or one that is told again at once. */
	offer(place, 2 * HOUR, HOUR, LEDGER_PERIOD_OFFERED);
	offer(place, HOUR, HOUR, LEDGER_PERIOD_OFFERED);
	offer(place, HOUR, HOUR, LEDGER_PERIOD_WAITS);
	assert_int_equal(ledger_cleaning_period(place->ledger), 9 * DAY);

	/* The first answer is remembered over a restart. */
	reopen(place);
	assert_int_equal(ledger_cleaning_period(place->ledger), 9 * DAY);
	assert_int_equal(ledger_offered_period(place->ledger), HOUR);
	offer(place, HOUR, 0, LEDGER_PERIOD_TAKEN);
	assert_int_equal(ledger_cleaning_period(place->ledger), HOUR);
	assert_int_equal(ledger_offered_period(place->ledger), 0);
}

static void pause_ms(int ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&pause, NULL);
}

/* Waits until so much time has passed by the ledger's count, marking meanwhile. */
static void let_pass(Place *place, int64_t micros)
{
	int64_t end = ledger_elapsed(place->ledger) + micros;

	while (ledger_elapsed(place->ledger) < end)
	{
		assert_int_equal(ledger_mark(place->ledger, CLOCK_SECOND, 0), TMS_OK);
		pause_ms(20);
	}
}

/* Old enough is what was taken in before a mark that is old enough. */
static void ages_by_elapsed_time(void **state)
{
	Place *place = *state;
	LedgerEntry *entries, late;
	int64_t before;

	assert_int_equal(ledger_aged(place->ledger, 0), 0);
	entries = append_many(place, 2);
	assert_int_equal(ledger_mark(place->ledger, CLOCK_SECOND, 0), TMS_OK);
	assert_int_equal(ledger_aged(place->ledger, 0), entries[1].id);
	assert_int_equal(ledger_aged(place->ledger, HOUR), 0);
	let_pass(place, CLOCK_SECOND * 3 / 2);
	assert_int_equal(append(place, "late", &late), TMS_OK);
	assert_int_equal(ledger_aged(place->ledger, CLOCK_SECOND), entries[1].id);
	before = ledger_elapsed(place->ledger);
	reopen(place);
	assert_true(ledger_elapsed(place->ledger) >= before);
	let_pass(place, CLOCK_SECOND * 5 / 2);
	assert_int_equal(ledger_aged(place->ledger, CLOCK_SECOND), late.id);
	free(entries);
}

/* What sqlite3 makes of a statement on the closed ledger. */
static void run_sql(Place *place, const char *sql)
{
	char file[128];
	sqlite3 *db;

	snprintf(file, sizeof file, "%s/ledger.db", place->dir);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* After a reboot the time the machine was off counts once two clocks agree on it, and not for what was taken in since. */
static void counts_the_time_off_by_two_clocks(void **state)
{
	Place *place = *state;
	LedgerEntry *entries, since;
	int64_t now = clock_now(), elapsed;

	ledger_witness(place->ledger, now - 10 * CLOCK_SECOND); /* a store's clock may be a little off */
	entries = append_many(place, 2);
	assert_int_equal(ledger_mark(place->ledger, CLOCK_SECOND, 0), TMS_OK);
	close_place(place);
	/* As if the machine had been off for two days: what the clocks said before is two days ago, in another boot. */
	run_sql(place,
			"UPDATE meta SET value = value - 172800000000 WHERE name IN ('elapsed_seen_clock', 'elapsed_seen_store');"
			"UPDATE meta SET value = value + 1 WHERE name = 'elapsed_boot'");
	open_as(place, "unit-1", MACHINE);
	elapsed = ledger_elapsed(place->ledger);
	assert_true(elapsed < HOUR);
	assert_int_equal(append(place, "since", &since), TMS_OK);
	let_pass(place, CLOCK_SECOND * 3 / 2);
	assert_int_equal(ledger_aged(place->ledger, CLOCK_SECOND / 10), since.id);

	/* A store whose clock was set by a year does not agree. */
	ledger_witness(place->ledger, clock_now() + 365 * DAY);
	let_pass(place, CLOCK_SECOND * 3 / 2);
	assert_true(ledger_elapsed(place->ledger) < HOUR);
	assert_int_equal(ledger_aged(place->ledger, DAY), 0);

	ledger_witness(place->ledger, clock_now() - 10 * CLOCK_SECOND);
	let_pass(place, CLOCK_SECOND * 3 / 2);
	elapsed = ledger_elapsed(place->ledger);
	assert_true(elapsed > 2 * DAY - HOUR && elapsed < 2 * DAY + HOUR);
	assert_int_equal(ledger_aged(place->ledger, DAY), entries[1].id); /* and not `since`, which is seconds old */
	free(entries);
}

static void takes_the_lesser_of_two_clocks(void **state)
{
	LedgerWitness before = {.elapsed = HOUR, .clock = NOW, .store = NOW + 5};
	LedgerWitness after = {.elapsed = 2 * HOUR, .clock = NOW + 4 * HOUR, .store = NOW + 5 + 4 * HOUR - 7};
	LedgerWitness never = {.elapsed = HOUR, .clock = NOW};

	assert_int_equal(ledger_time_off(&before, &after), 3 * HOUR - 7);
	after.clock = NOW + 365 * DAY; /* somebody set a clock */
	assert_int_equal(ledger_time_off(&before, &after), -1);
	after.clock = NOW + HOUR - 5;
	after.store = NOW + HOUR;
	assert_int_equal(ledger_time_off(&before, &after), 0); /* it was not off at all */
	assert_int_equal(ledger_time_off(&never, &after), -1);
}

/* Both steps for many in one commit each; one that became unsafe meanwhile stays. */
static void cleans_in_batches(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3), entry;
	TmsUuid uuid = active(place).ledger;
	LedgerUpload uploads[3];
	LedgerCleaning list[3];
	LedgerCounts counts;

	for (int i = 0; i < 3; i++)
	{
		uploads[i] = (LedgerUpload){.id = entries[i].id, .at = NOW, .how = LEDGER_VERIFIED_TOLD};
		list[i] = (LedgerCleaning){.id = entries[i].id, .early = i == 2, .receipt = "{}"};
	}
	assert_int_equal(ledger_set_uploaded(place->ledger, uploads, 3), TMS_OK);
	assert_int_equal(ledger_confirm(place->ledger, &uuid, 3), TMS_OK);
	assert_int_equal(ledger_set_missing(place->ledger, entries[1].id, "HEAD: HTTP status 404"), TMS_OK);
	assert_int_equal(ledger_cleaning(place->ledger, list, 3), TMS_OK);
	assert_true(list[0].allowed && !list[1].allowed && list[2].allowed);
	list[0].gone = list[2].gone = true;
	assert_int_equal(ledger_cleaned(place->ledger, list, 3), TMS_OK);
	assert_int_equal(ledger_get_id(place->ledger, entries[1].id, &entry), TMS_OK);
	assert_true(entry.held);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.cached, 1);
	assert_int_equal(counts.cleaned, 2);
	assert_int_equal(counts.cleaned_early, 1);
	free(entries);
}

/* A ledger.db of the first version opens, with what it held. */
static void opens_an_older_ledger(void **state)
{
	Place *place = *state;
	char script[600];
	LedgerEntry entry;
	TmsUuid uuid = active(place).ledger;

	close_place(place);
	in_place(place, "rm -f ledger.db ledger.db-wal ledger.db-shm");
	run_sql(place, "PRAGMA journal_mode = WAL;" LEDGER_SCHEMA_1 "PRAGMA user_version = 1;");
	snprintf(
		script, sizeof script,
		"INSERT INTO ledger (uuid, sealed, last_seq, confirmed) VALUES (x'%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x"
		"%02x%02x%02x%02x%02x', 0, 1, 1); INSERT INTO capture (ledger, seq, bytes, taken_at, captured_at, uploaded_at,"
		" violation, path, sha256, record) VALUES (1, 1, 9, 5, 5, 7, 0, 'a/b.jpg', zeroblob(32), '{}');"
		"INSERT INTO intake_key VALUES ('key', 1)",
		uuid.bytes[0], uuid.bytes[1], uuid.bytes[2], uuid.bytes[3], uuid.bytes[4], uuid.bytes[5], uuid.bytes[6],
		uuid.bytes[7], uuid.bytes[8], uuid.bytes[9], uuid.bytes[10], uuid.bytes[11], uuid.bytes[12], uuid.bytes[13],
		uuid.bytes[14], uuid.bytes[15]);
	run_sql(place, script);
	open_as(place, "unit-1", MACHINE);
	assert_int_equal(ledger_get(place->ledger, &uuid, 1, &entry), TMS_OK);
	assert_int_equal(entry.uploaded_at, 7);
	assert_string_equal(entry.etag, "");
	assert_int_equal(active(place).confirmed, 1);
	assert_int_equal(append(place, "new", &entry), TMS_OK);
	assert_int_equal(entry.seq, 2);
	reopen(place);
	assert_int_equal(active(place).last_seq, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(shortens_only_when_told_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ages_by_elapsed_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(counts_the_time_off_by_two_clocks, set_up, tear_down),
		cmocka_unit_test(takes_the_lesser_of_two_clocks),
		cmocka_unit_test_setup_teardown(cleans_in_batches, set_up, tear_down),
		cmocka_unit_test_setup_teardown(opens_an_older_ledger, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
