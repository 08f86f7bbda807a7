/*
 * What the ledger keeps of captures that are in no manifest yet, and a manifest's lines and name.
 */
#include <jansson.h>
#include <sqlite3.h>

#include "agent/json_field.h"
#include "agent/manifest_text.h"
#include "ledger_place.h"

/* The one hour that is due, of all captures of the tests; fails when there is another. */
static LedgerManifest due(Place *place)
{
	LedgerManifest found = {.hour = INT64_MIN}, next;

	assert_int_equal(ledger_manifest_next(place->ledger, &found), TMS_OK);
	next = found;
	assert_int_equal(ledger_manifest_next(place->ledger, &next), TMS_NOT_FOUND);
	assert_int_equal(found.hour, NOW / HOUR);
	return found;
}

static void nothing_due(Place *place)
{
	LedgerManifest found = {.hour = INT64_MIN};

	assert_int_equal(ledger_manifest_next(place->ledger, &found), TMS_NOT_FOUND);
}

static void names_what_is_uploaded(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 4), read[4];
	LedgerManifest found;
	int count;

	nothing_due(place);
	assert_int_equal(set_uploaded(place, entries[0].id, NOW + 5), TMS_OK);
	assert_int_equal(set_uploaded(place, entries[2].id, NOW + 7), TMS_OK);
	found = due(place);
	assert_int_equal(found.count, 2);
	assert_int_equal(found.first_at, NOW + 5);
	assert_int_equal(found.last_at, NOW + 7);
	assert_true(found.waits);
	assert_memory_equal(&found.ledger, &entries[0].ledger, sizeof found.ledger);
	assert_int_equal(ledger_manifest_read(place->ledger, &found, 0, read, 4, &count), TMS_OK);
	assert_int_equal(count, 2);
	assert_int_equal(read[1].seq, 3);
	/* One comes while a part is on its way: only what the part named is done. */
	assert_int_equal(set_uploaded(place, entries[1].id, NOW + 8), TMS_OK);
	assert_int_equal(ledger_set_aside(place->ledger, entries[3].id, "test"), TMS_OK);
	assert_int_equal(ledger_manifest_written(place->ledger, &found, (int64_t[]){entries[0].id, entries[2].id}, 2),
					 TMS_OK);
	reopen(place);
	found = due(place);
	assert_int_equal(found.count, 1);
	assert_false(found.waits);
	/* Lost from the image center: not in it, until it is uploaded again, which is written again. */
	assert_int_equal(ledger_set_missing(place->ledger, entries[1].id, "test"), TMS_OK);
	nothing_due(place);
	assert_int_equal(ledger_set_missing(place->ledger, entries[0].id, "test"), TMS_OK);
	assert_int_equal(set_uploaded(place, entries[0].id, NOW + 9), TMS_OK);
	assert_int_equal(due(place).count, 1);
	free(entries);
}

static void forks_are_written_anew(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 3);
	LedgerManifest found;

	for (int i = 0; i < 3; i++)
		assert_int_equal(set_uploaded(place, entries[i].id, NOW), TMS_OK);
	found = due(place);
	assert_int_equal(
		ledger_manifest_written(place->ledger, &found, (int64_t[]){entries[0].id, entries[1].id, entries[2].id}, 3),
		TMS_OK);
	nothing_due(place);
	assert_int_equal(ledger_fork(place->ledger, &entries[0].ledger, 2), TMS_OK);
	found = due(place);
	assert_int_equal(found.count, 2);
	assert_memory_not_equal(&found.ledger, &entries[0].ledger, sizeof found.ledger);
	free(entries);
}

/* Captures that were uploaded before there were manifests. */
static void older_captures_follow(void **state)
{
	Place *place = *state;
	LedgerEntry *entries = append_many(place, 2);
	LedgerManifest found;
	char file[128];
	sqlite3 *db;
	bool more = true;

	for (int i = 0; i < 2; i++)
		assert_int_equal(set_uploaded(place, entries[i].id, NOW), TMS_OK);
	found = due(place);
	assert_int_equal(ledger_manifest_written(place->ledger, &found, (int64_t[]){entries[0].id, entries[1].id}, 2),
					 TMS_OK);
	close_place(place);
	snprintf(file, sizeof file, "%s/ledger.db", place->dir);
	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
								  "UPDATE meta SET value = (SELECT max(id) FROM capture) WHERE name = 'manifest_walk'",
								  NULL, NULL, NULL),
					 SQLITE_OK);
	sqlite3_close(db);
	open_as(place, "unit-1", MACHINE);
	while (more)
		assert_int_equal(ledger_manifest_walk(place->ledger, &more), TMS_OK);
	assert_int_equal(due(place).count, 2);
	free(entries);
}

static void writes_lines(void **state)
{
	Place *place = *state;
	LedgerEntry entry;
	char line[MANIFEST_LINE_SIZE], path[TMS_STORAGE_PATH_SIZE], hex[TMS_SHA256_HEX_SIZE], expected[300];
	char uuid[TMS_UUID_TEXT_SIZE];
	json_t *json;
	size_t len;

	assert_int_equal(append(place, "WA\"\\1", &entry), TMS_OK);
	assert_int_equal(manifest_line(&entry, line, &len), TMS_OK);
	assert_int_equal(len, strlen(line));
	assert_true(len > 1 && line[len - 1] == '\n' && strchr(line, '\n') == line + len - 1);
	json = json_loads(line, 0, NULL);
	assert_non_null(json);
	tms_uuid_format(&entry.ledger, uuid);
	tms_sha256_hex(entry.sha256, hex);
	assert_string_equal(json_field_text(json, "ledger"), uuid);
	assert_int_equal(json_field_number(json, "seq"), 1);
	assert_string_equal(json_field_text(json, "path"), entry.path);
	assert_string_equal(json_field_text(json, "sha256"), hex);
	assert_int_equal(json_field_number(json, "bytes"), entry.bytes);
	assert_string_equal(json_field_text(json, "plate"), "WA\"\\1");
	json_decref(json);
	assert_int_equal(manifest_path(NOW / HOUR, &entry.ledger, 42, entry.sha256, path), TMS_OK);
	snprintf(expected, sizeof expected, "manifest/%.13s/%s-0000000042-%.8s.jsonl", entry.path, uuid, hex);
	assert_string_equal(path, expected);
	assert_int_equal(manifest_path(INT64_MAX / HOUR, &entry.ledger, 42, entry.sha256, path), TMS_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_what_is_uploaded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forks_are_written_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(older_captures_follow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_lines, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
