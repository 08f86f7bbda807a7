/*
 * Records from query strings and side files: every field, every kind of mistake, and that what is written reads back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/record.h"

static char error[RECORD_ERROR_SIZE];

static TmsStatus set(Record *record, const char *name, const char *value)
{
	return record_set(record, name, value, strlen(value), error);
}

static TmsStatus read_json(Record *record, const char *json)
{
	return record_from_json(record, json, strlen(json), error);
}

static TmsStatus read_stored(Record *record, const char *json)
{
	return record_from_stored(record, json, strlen(json), error);
}

static void sets_every_field(void **state)
{
	Record record;
	char uuid[TMS_UUID_TEXT_SIZE];

	record_init(&record);
	assert_int_equal(set(&record, "captured_at", "2026-11-22T14:03:05.25+08:00"), TMS_OK);
	assert_int_equal(set(&record, "plate",
						 "\xe7\xb2\xa4"
						 "B12345"),
					 TMS_OK);
	assert_int_equal(set(&record, "plate_class", "small"), TMS_OK);
	assert_int_equal(set(&record, "plate_color", "blue"), TMS_OK);
	assert_int_equal(set(&record, "direction", "north"), TMS_OK);
	assert_int_equal(set(&record, "lane", "3"), TMS_OK);
	assert_int_equal(set(&record, "speed_kmh", "0"), TMS_OK);
	assert_int_equal(set(&record, "violation_code", "1344"), TMS_OK);
	assert_int_equal(set(&record, "event_id", "6F9619FF-8B86-D011-B42D-00C04FC964FF"), TMS_OK);
	assert_int_equal(set(&record, "camera", "north \"1\""), TMS_OK);
	assert_int_equal(set(&record, "attributes", "{\"light\": {\"lux\": 4}}"), TMS_OK);

	assert_true(record.has_captured_at);
	assert_int_equal(record.captured_at, INT64_C(1795327385250000));
	assert_string_equal(record.plate, "\xe7\xb2\xa4"
									  "B12345");
	assert_int_equal(record.lane, 3);
	assert_true(record.has_speed_kmh);
	assert_int_equal(record.speed_kmh, 0);
	tms_uuid_format(&record.event_id, uuid);
	assert_string_equal(uuid, "6f9619ff-8b86-d011-b42d-00c04fc964ff");
	assert_string_equal(record.attributes, "{\"camera\":\"north \\\"1\\\"\",\"light\":{\"lux\":4}}");
}

static void empty_value_is_absent(void **state)
{
	static const char *const names[] = {"captured_at", "plate", "lane", "event_id", "attributes"};
	Record record, empty;

	record_init(&empty);
	record_init(&record);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		assert_int_equal(set(&record, names[i], ""), TMS_OK);
	assert_memory_equal(&record, &empty, sizeof record);
}

typedef struct Mistake
{
	const char *name;
	const char *value;
	const char *says; /* a part of the error */
} Mistake;

static void names_the_field_of_a_mistake(void **state)
{
	static const Mistake mistakes[] = {
		{"captured_at", "yesterday", "RFC 3339"},
		{"captured_at", "2026-11-22T14:03:05", "zone"},
		{"captured_at", "2026-02-30T14:03:05Z", "RFC 3339"},
		{"captured_at", "1999-12-31T23:59:59Z", "not between 2000-01-01"},
		{"captured_at", "2100-01-01T00:00:00Z", "not between"},
		{"plate", "123456789012345678901234567890123", "longer than 32 bytes"},
		{"plate", "a\xff", "UTF-8"},
		{"plate", "\xed\xa0\x80", "UTF-8"},
		{"plate", "a\nb", "control character"},
		{"plate_class", "12345678901234567", "longer than 16 bytes"},
		{"plate_color", "12345678901234567", "longer than 16 bytes"},
		{"direction", "a\x7f", "control character"},
		{"violation_code", "\xc2\x85", "control character"},
		{"lane", "three", "whole number"},
		{"lane", "3.5", "whole number"},
		{"lane", " 3", "whole number"},
		{"lane", "+3", "whole number"},
		{"lane", "-", "whole number"},
		{"lane", "-1", "between 0 and 999"},
		{"lane", "1000", "between 0 and 999"},
		{"speed_kmh", "99999999999999999999", "between 0 and 999"},
		{"event_id", "6f9619ff", "UUID"},
		{"attributes", "[1]", "JSON object"},
		{"attributes", "{\"a\":1,\"a\":2}", "JSON object"},
		{"attributes", "{", "JSON object"},
		{"camera", "\xff", "UTF-8"},
		{"a name that is much longer than any that somebody would give to an attribute", "1", "not a name"},
		{"", "1", "not a name"},
	};
	Record record, empty;

	record_init(&empty);
	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
	{
		char expected[80];

		record_init(&record);
		assert_int_equal(set(&record, mistakes[i].name, mistakes[i].value), TMS_INVALID);
		snprintf(expected, sizeof expected, "%.64s: ", mistakes[i].name);
		assert_memory_equal(error, expected, strlen(expected));
		assert_non_null(strstr(error, mistakes[i].says));
		record.captured_at = 0;
		assert_memory_equal(&record, &empty, sizeof record);
	}
}

static void bytes_after_a_nul_count(void **state)
{
	Record record;

	record_init(&record);
	assert_int_equal(record_set(&record, "plate", "AB\0CD", 5, error), TMS_INVALID);
	assert_int_equal(record_set(&record, "camera", "AB\0CD", 5, error), TMS_INVALID);
	assert_int_equal(record_set(&record, "lane", "1\0002", 3, error), TMS_INVALID);
	assert_int_equal(record_set(&record, "captured_at", "1795327385\0", 11, error), TMS_INVALID);
	assert_int_equal(record_from_json(&record, "{\"plate\":\"A\\u0000B\"}", 20, error), TMS_INVALID);
}

static void refuses_what_comes_twice(void **state)
{
	static const char *const twice[][2] = {
		{"plate", "A"}, {"lane", "1"}, {"captured_at", "1795327385"}, {"camera", "north"}, {"attributes", "{\"x\":1}"},
	};
	Record record;

	for (size_t i = 0; i < sizeof twice / sizeof *twice; i++)
	{
		record_init(&record);
		assert_int_equal(set(&record, twice[i][0], twice[i][1]), TMS_OK);
		assert_int_equal(set(&record, twice[i][0], twice[i][1]), TMS_INVALID);
		assert_non_null(strstr(error, "given twice"));
	}
	assert_int_equal(read_json(&record, "{\"plate\":\"A\",\"plate\":\"B\"}"), TMS_INVALID);
}

static void names_from_outside_are_made_harmless(void **state)
{
	Record record;

	record_init(&record);
	assert_int_equal(set(&record, "a\r\nlevel=error\xff", "\xff"), TMS_INVALID);
	for (const char *c = error; *c; c++)
		assert_true(*c >= ' ' && *c <= '~');
}

/* plate_box is an array, in a query string too, and only of four whole numbers that can be a box. */
static void takes_plate_boxes(void **state)
{
	static const char *const bad[] = {"10",          "[1,2,3]",          "[1,2,3,4,5]", "[1,2,0,4]",
									  "[-1,2,3,4]",  "[1,2,3,65536]",    "[1,2,3,4.5]", "[1,2,3,\"4\"]",
									  "{\"0\":1}",   "1,2,3,4",          "[1,2,3,4",    "",
									  "[1,2,3,4] x", "[[1],[2],[3],[4]]"};
	Record record;

	record_init(&record);
	assert_int_equal(record_set(&record, "plate_box", "[0, 20, 110,35]", 15, error), TMS_OK);
	assert_string_equal(record.attributes, "{\"plate_box\":[0,20,110,35]}");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		record_init(&record);
		assert_int_equal(record_set(&record, "plate_box", bad[i], strlen(bad[i]), error), TMS_INVALID);
		assert_string_equal(error, "plate_box: not [x, y, w, h] in pixels");
	}
	assert_int_equal(record_from_json(&record, "{\"plate_box\":[1,2,3,4]}", 23, error), TMS_OK);
	assert_string_equal(record.attributes, "{\"plate_box\":[1,2,3,4]}");
	assert_int_equal(record_from_json(&record, "{\"attributes\":{\"plate_box\":[1,2,3]}}", 36, error), TMS_INVALID);
	assert_string_equal(error, "plate_box: not [x, y, w, h] in pixels");
}

static void attributes_have_a_limit(void **state)
{
	Record record;
	char value[TMS_ATTRIBUTES_MAX + 1], before[sizeof record.attributes];

	record_init(&record);
	memset(value, 'x', sizeof value);
	assert_int_equal(record_set(&record, "first", value, 3000, error), TMS_OK);
	strcpy(before, record.attributes);
	assert_int_equal(record_set(&record, "second", value, 1500, error), TMS_INVALID);
	assert_non_null(strstr(error, "longer than 4096 bytes"));
	assert_string_equal(record.attributes, before);
	assert_int_equal(record_set(&record, "third", value, 4097, error), TMS_INVALID);
	assert_int_equal(record_set_attribute(&record, "jpeg", "truncated"), TMS_OK);
	assert_int_equal(record_set_attribute(&record, "jpeg", "truncated"), TMS_OK);
	memset(value, 'y', sizeof value);
	value[1500] = '\0';
	assert_int_equal(record_set_attribute(&record, "more", value), TMS_TOO_LARGE);
}

static void reads_side_files(void **state)
{
	Record record;

	assert_int_equal(read_json(&record, "{\"captured_at\": 1795327385.25, \"plate\": \"A1\", \"lane\": 2,"
										" \"speed_kmh\": \"88\", \"direction\": null, \"camera\": {\"id\": [1, 2.5]},"
										" \"attributes\": {\"note\": true}}"),
					 TMS_OK);
	assert_int_equal(record.captured_at, INT64_C(1795327385250000));
	assert_string_equal(record.plate, "A1");
	assert_int_equal(record.lane, 2);
	assert_int_equal(record.speed_kmh, 88);
	assert_string_equal(record.direction, "");
	assert_string_equal(record.attributes, "{\"note\":true,\"camera\":{\"id\":[1,2.5]}}");
	assert_int_equal(read_json(&record, "{}"), TMS_OK);
	assert_false(record.has_captured_at);
}

static void refuses_bad_side_files(void **state)
{
	static const Mistake mistakes[] = {
		{"record", "", "JSON"},
		{"record", "[]", "not a JSON object"},
		{"record", "{\"plate\": ", "JSON"},
		{"record", "{\"plate\": \"\xe9\"}", "JSON"},
		{"plate", "{\"plate\": 5}", "not a text"},
		{"plate", "{\"plate\": [\"A\"]}", "not a text"},
		{"lane", "{\"lane\": 2.5}", "whole number"},
		{"lane", "{\"lane\": true}", "whole number"},
		{"lane", "{\"lane\": 1e3}", "whole number"},
		{"speed_kmh", "{\"speed_kmh\": 1000}", "between 0 and 999"},
		{"captured_at", "{\"captured_at\": {}}", "time"},
		{"captured_at", "{\"captured_at\": -5}", "RFC 3339"},
		{"captured_at", "{\"captured_at\": 1e300}", "RFC 3339"},
		{"event_id", "{\"event_id\": 7}", "text"},
		{"attributes", "{\"attributes\": \"x\"}", "JSON object"},
		{"x", "{\"x\": 1, \"attributes\": {\"x\": 2}}", "given twice"},
	};
	Record record;

	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
	{
		assert_int_equal(read_json(&record, mistakes[i].value), TMS_INVALID);
		assert_memory_equal(error, mistakes[i].name, strlen(mistakes[i].name));
		assert_non_null(strstr(error, mistakes[i].says));
	}
}

/* Brackets upon brackets: refused, not followed to the end of the stack. */
static void deep_json_is_refused(void **state)
{
	size_t depth = 100000;
	char *text = malloc(depth);
	Record record;

	memset(text, '[', depth);
	assert_int_equal(record_from_json(&record, text, depth, error), TMS_INVALID);
	memcpy(text, "{\"a\":", 5);
	assert_int_equal(record_from_json(&record, text, depth, error), TMS_INVALID);
	free(text);
}

static void what_is_written_reads_back(void **state)
{
	Record record, again;
	char json[RECORD_JSON_SIZE], large[TMS_ATTRIBUTES_MAX];

	record_init(&record);
	assert_int_equal(record_to_json(&record, json, sizeof json), TMS_OK);
	assert_string_equal(json, "{}");
	assert_int_equal(set(&record, "captured_at", "2026-11-22T14:03:05.000001Z"), TMS_OK);
	assert_int_equal(set(&record, "plate", "\xe7\xb2\xa4\"\\'1"), TMS_OK);
	assert_int_equal(set(&record, "lane", "0"), TMS_OK);
	assert_int_equal(set(&record, "event_id", "6f9619ff-8b86-d011-b42d-00c04fc964ff"), TMS_OK);
	memset(large, '"', sizeof large);
	assert_int_equal(record_set(&record, "note", large, 2000, error), TMS_OK);
	assert_int_equal(record_to_json(&record, json, sizeof json), TMS_OK);
	assert_int_equal(read_json(&again, json), TMS_OK);
	assert_memory_equal(&again, &record, sizeof record);
	assert_int_equal(read_stored(&again, json), TMS_OK);
	assert_memory_equal(&again, &record, sizeof record);
	assert_int_equal(record_to_json(&record, json, 100), TMS_TOO_LARGE);
}

/* What an agent of other rules took and stored: attributes as they are, and each field that can be read. */
static void what_is_stored_is_not_judged(void **state)
{
	static const char *const kept[] = {
		"{\"plate\":\"A1\",\"attributes\":{\"plate_box\":\"10,20,110,35\",\"camera\":\"7\"}}",
		"{\"attributes\":{\"plate_box\":[1,2,0,4]}}",
		"{\"attributes\":{\"plate_box\":{\"x\":1.5},\"\":null}}",
		"{}",
	};
	static const Mistake mistakes[] = {
		{"record", "", "not a JSON object"},
		{"record", "[1]", "not a JSON object"},
		{"speed_kmh", "{\"plate\":\"A1\",\"speed_kmh\":1000,\"lane\":2}", "between 0 and 999"},
		{"attributes", "{\"plate\":\"A1\",\"attributes\":7,\"lane\":2}", "not a JSON object"},
	};
	Record record;
	char json[RECORD_JSON_SIZE];

	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
	{
		assert_int_equal(read_stored(&record, kept[i]), TMS_OK);
		assert_int_equal(record_to_json(&record, json, sizeof json), TMS_OK);
		assert_string_equal(json, kept[i]);
	}
	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
	{
		assert_int_equal(read_stored(&record, mistakes[i].value), TMS_INVALID);
		assert_memory_equal(error, mistakes[i].name, strlen(mistakes[i].name));
		assert_non_null(strstr(error, mistakes[i].says));
		assert_int_equal(record_to_json(&record, json, sizeof json), TMS_OK);
		assert_string_equal(json, i < 2 ? "{}" : "{\"plate\":\"A1\",\"lane\":2}");
	}
	/* A field that this agent does not know stays an attribute. */
	assert_int_equal(read_stored(&record, "{\"axles\":3,\"attributes\":{\"plate_box\":[]}}"), TMS_OK);
	assert_string_equal(record.attributes, "{\"axles\":3,\"plate_box\":[]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_every_field),
		cmocka_unit_test(empty_value_is_absent),
		cmocka_unit_test(names_the_field_of_a_mistake),
		cmocka_unit_test(bytes_after_a_nul_count),
		cmocka_unit_test(refuses_what_comes_twice),
		cmocka_unit_test(names_from_outside_are_made_harmless),
		cmocka_unit_test(takes_plate_boxes),
		cmocka_unit_test(attributes_have_a_limit),
		cmocka_unit_test(reads_side_files),
		cmocka_unit_test(refuses_bad_side_files),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(what_is_written_reads_back),
		cmocka_unit_test(what_is_stored_is_not_judged),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
