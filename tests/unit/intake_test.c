/*
 * Taking one capture, whichever way it comes: what is taken, what is not, and that nothing is left of what is not.
 */
#include "agent/clock.h"
#include "agent/intake.h"
#include "ledger_place.h"

#define MOST 1000 /* max_image_bytes */

/* A gray picture of 8 by 8: SOI, SOF0, SOS, a byte of data, EOI. */
static const uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08, 0x00, 0x08, 0x01, 0x01, 0x11,
							   0x00, 0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0x2b, 0xff, 0xd9};

static Config config = {.max_image_bytes = MOST};
static char error[RECORD_ERROR_SIZE];

/* Takes bytes as one capture. */
static TmsStatus take(Place *place, const void *data, size_t len, const Record *record, LedgerEntry *entry)
{
	ServiceContext context = {.config = &config, .cache = place->cache, .ledger = place->ledger};
	Intake *intake;
	TmsStatus status = intake_begin(&context, (int64_t) len, &intake);

	if (status != TMS_OK)
		return status;
	/* In two pieces, as it comes from a socket. */
	status = intake_write(intake, data, len / 2);
	if (status == TMS_OK)
		status = intake_write(intake, (const char *) data + len / 2, len - len / 2);
	if (status == TMS_OK)
		status = intake_finish(intake, record, NULL, entry, error);
	intake_free(intake);
	return status;
}

static void takes_a_photograph(void **state)
{
	Place *place = *state;
	LedgerEntry entry, again;
	Record record;
	char note[CACHE_NOTE_SIZE];
	uint8_t sha256[TMS_SHA256_SIZE];

	record_init(&record);
	strcpy(record.plate, "AB12");
	record.captured_at = NOW;
	record.has_captured_at = true;
	assert_int_equal(take(place, jpeg, sizeof jpeg, &record, &entry), TMS_OK);
	assert_true(tms_sha256(jpeg, sizeof jpeg, sha256));
	assert_memory_equal(entry.sha256, sha256, TMS_SHA256_SIZE);
	assert_int_equal(entry.bytes, sizeof jpeg);
	assert_memory_equal(entry.path, "2026/11/", 8);
	assert_true(in_cache(place, entry.path));
	assert_int_equal(ledger_get(place->ledger, &entry.ledger, entry.seq, &again), TMS_OK);
	assert_string_equal(again.record.plate, "AB12");
	assert_string_equal(again.record.attributes, "");
	assert_int_equal(cache_read_note(place->cache, entry.path, note), TMS_OK);
	assert_non_null(strstr(note, "\"plate\":\"AB12\""));
	in_place(place, "test -z \"$(ls tmp quarantine | grep -v :)\"");
}

static void captured_at_is_now_when_it_is_not_given(void **state)
{
	Place *place = *state;
	int64_t before = clock_now();
	LedgerEntry entry;
	Record record;

	record_init(&record);
	assert_int_equal(take(place, jpeg, sizeof jpeg, &record, &entry), TMS_OK);
	assert_true(entry.record.captured_at >= before && entry.record.captured_at <= clock_now());
	assert_int_equal(entry.record.captured_at, entry.taken_at);
}

static void damaged_tail_is_told(void **state)
{
	Place *place = *state;
	LedgerEntry entry;
	Record record;

	record_init(&record);
	assert_int_equal(record_set(&record, "camera", "n", 1, error), TMS_OK);
	assert_int_equal(take(place, jpeg, sizeof jpeg - 2, &record, &entry), TMS_OK);
	assert_string_equal(entry.record.attributes, "{\"camera\":\"n\",\"jpeg\":\"truncated\"}");
	assert_int_equal(entry.bytes, sizeof jpeg - 2);
}

static void takes_no_other_bytes(void **state)
{
	Place *place = *state;
	LedgerCounts counts;
	LedgerEntry entry;
	Record record;

	record_init(&record);
	assert_int_equal(take(place, "<html>", 6, &record, &entry), TMS_INVALID);
	assert_string_equal(error, "not a JPEG");
	assert_int_equal(take(place, "", 0, &record, &entry), TMS_INVALID);
	assert_int_equal(take(place, jpeg, 3, &record, &entry), TMS_INVALID);
	assert_int_equal(ledger_counts(place->ledger, &counts), TMS_OK);
	assert_int_equal(counts.cached, 0);
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void too_large_is_found_early(void **state)
{
	Place *place = *state;
	ServiceContext context = {.config = &config, .cache = place->cache, .ledger = place->ledger};
	static const char piece[MOST];
	Intake *intake;

	assert_int_equal(intake_begin(&context, MOST + 1, &intake), TMS_TOO_LARGE);
	assert_int_equal(intake_begin(&context, 0, &intake), TMS_OK);
	assert_int_equal(intake_write(intake, piece, MOST), TMS_OK);
	assert_int_equal(intake_write(intake, piece, 1), TMS_TOO_LARGE);
	intake_free(intake);
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void quarantine_is_the_callers_choice(void **state)
{
	Place *place = *state;
	ServiceContext context = {.config = &config, .cache = place->cache, .ledger = place->ledger};
	Intake *intake;

	assert_int_equal(intake_begin(&context, 0, &intake), TMS_OK);
	assert_int_equal(intake_quarantine(intake, "empty.jpg", "empty"), TMS_OK);
	in_place(place, "test -z \"$(ls quarantine)\"");
	assert_int_equal(intake_write(intake, "junk", 4), TMS_OK);
	assert_int_equal(intake_quarantine(intake, "junk.jpg", "junk"), TMS_OK);
	intake_free(intake);
	in_place(place, "test \"$(cat quarantine/*junk.jpg)\" = junk");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(takes_a_photograph, set_up, tear_down),
		cmocka_unit_test_setup_teardown(captured_at_is_now_when_it_is_not_given, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damaged_tail_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(takes_no_other_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(too_large_is_found_early, set_up, tear_down),
		cmocka_unit_test_setup_teardown(quarantine_is_the_callers_choice, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}
