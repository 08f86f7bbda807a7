/*
 * Tests of agent/status.c: the names and values of the object on a ledger of its own, and the arithmetic of safe_until.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/health.h"
#include "agent/status.h"
#include "common/capture_record.h"

static char folder[64];
static Config config = {.device = (char *) "gate-1", .min_free_percent = 5};
static ServiceContext context = {.config = &config};

static int open_ledger(void **state)
{
	strcpy(folder, "/tmp/tms_status_XXXXXX");
	if (!mkdtemp(folder) || cache_open(folder, &context.cache) != TMS_OK)
		return -1;
	config.data_dir = folder;
	return ledger_open(context.cache, folder, "gate-1", "machine", &context.ledger) != TMS_OK;
}

static int close_ledger(void **state)
{
	char command[128];

	ledger_close(context.ledger);
	cache_close(context.cache);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static json_t *read_status(bool local)
{
	char *text = status_json(&context, local);
	json_t *status;

	assert_non_null(text);
	assert_null(strchr(text, '\n'));
	status = json_loads(text, 0, NULL);
	assert_non_null(status);
	free(text);
	return status;
}

/* Puts a photograph of so many bytes into the ledger. */
static void take_capture(int bytes)
{
	CacheWriter *writer;
	LedgerEntry entry = {.taken_at = INT64_C(1795327386000000)};
	char *data = calloc(1, (size_t) bytes);

	assert_int_equal(cache_create(context.cache, bytes, &writer), TMS_OK);
	assert_int_equal(cache_write(writer, data, (size_t) bytes), TMS_OK);
	assert_int_equal(cache_finish(writer, &entry.bytes, entry.sha256), TMS_OK);
	record_init(&entry.record);
	entry.record.captured_at = entry.taken_at;
	entry.record.has_captured_at = true;
	assert_int_equal(ledger_append(context.ledger, cache_temporary(writer), NULL, &entry), TMS_OK);
	cache_writer_free(writer);
	free(data);
}

static const char *const heartbeat_names[] = {
	"at",       "cached",     "cached_bytes", "cleaning",    "clock",  "error",   "free_bytes", "intake_per_hour",
	"register", "safe_until", "set_aside",    "total_bytes", "upload", "version",
};

/* The heartbeat has exactly these names: the path center's tms.fleet reads them. */
static void names(void **state)
{
	json_t *status = read_status(false), *part;
	size_t count = sizeof heartbeat_names / sizeof heartbeat_names[0];

	for (size_t i = 0; i < count; i++)
		if (!json_object_get(status, heartbeat_names[i]))
			fail_msg("%s is missing", heartbeat_names[i]);
	assert_int_equal(json_object_size(status), count);
	for (int i = 0; i < 2; i++)
	{
		part = json_object_get(status, i == 0 ? "upload" : "register");
		assert_int_equal(json_object_size(part), i == 0 ? 5 : 3);
		assert_non_null(json_object_get(part, "backlog"));
		assert_non_null(json_object_get(part, "oldest_at"));
		assert_non_null(json_object_get(part, "error"));
	}
	json_decref(status);

	status = read_status(true);
	assert_int_equal(json_object_size(status), count + 6);
	assert_string_equal(json_string_value(json_object_get(status, "device")), "gate-1");
	assert_non_null(json_string_value(json_object_get(status, "clock_state")));
	assert_int_equal(json_object_size(json_object_get(status, "parts")), HEALTH_PART_COUNT);
	assert_int_equal(json_array_size(json_object_get(status, "ledgers")), 1);
	assert_int_equal(json_array_size(json_object_get(json_object_get(status, "history"), "samples")), 1);
	json_decref(status);
}

static void an_empty_ledger(void **state)
{
	json_t *status = read_status(false), *upload = json_object_get(status, "upload");
	int64_t at, clock;
	const char *text = json_string_value(json_object_get(status, "at"));

	assert_true(tms_time_parse(text, strlen(text), &at));
	text = json_string_value(json_object_get(status, "clock"));
	assert_true(tms_time_parse(text, strlen(text), &clock));
	assert_true(clock >= at && clock < at + 60000000);
	assert_int_equal(json_integer_value(json_object_get(status, "cached")), 0);
	assert_int_equal(json_integer_value(json_object_get(upload, "backlog")), 0);
	assert_true(json_is_null(json_object_get(upload, "oldest_at")));
	assert_true(json_is_null(json_object_get(upload, "error")));
	assert_true(json_is_null(json_object_get(status, "intake_per_hour")));
	assert_true(json_is_null(json_object_get(status, "safe_until")));
	assert_true(json_integer_value(json_object_get(status, "free_bytes")) > 0);
	assert_true(json_integer_value(json_object_get(status, "total_bytes")) >=
				json_integer_value(json_object_get(status, "free_bytes")));
	json_decref(status);
}

static void captures_and_errors(void **state)
{
	json_t *status, *upload, *ledger;

	assert_true(status_sample(&context));
	take_capture(1000);
	take_capture(2000);
	health_error(HEALTH_IMAGE_CENTER, "HTTP %d", 403);
	status = read_status(true);
	upload = json_object_get(status, "upload");
	ledger = json_array_get(json_object_get(status, "ledgers"), 0);
	assert_int_equal(json_integer_value(json_object_get(status, "cached")), 2);
	assert_int_equal(json_integer_value(json_object_get(status, "cached_bytes")), 3000);
	assert_int_equal(json_integer_value(json_object_get(upload, "backlog")), 2);
	assert_string_equal(json_string_value(json_object_get(upload, "oldest_at")), "2026-11-22T06:03:06.000000Z");
	assert_string_equal(json_string_value(json_object_get(upload, "error")), "HTTP 403");
	assert_int_equal(json_integer_value(json_object_get(ledger, "last_seq")), 2);
	assert_false(json_is_true(json_object_get(ledger, "sealed")));
	/* Measured over less than a minute a rate says nothing. */
	assert_true(json_is_null(json_object_get(status, "intake_per_hour")));
	json_decref(status);

	health_ok(HEALTH_IMAGE_CENTER);
	status = read_status(false);
	assert_true(json_is_null(json_object_get(json_object_get(status, "upload"), "error")));
	json_decref(status);
}

/* Whatever others say, the status can be written: valid UTF-8, one line, nothing that a terminal obeys. */
static void hostile_errors(void **state)
{
	static const struct
	{
		const char *given, *kept;
	} cases[] = {
		{"\xff\xfe bad", "?? bad"},
		{"cut \xe4\xba", "cut ??"},
		{"two\nlines\r\x1b[31m", "two lines  [31m"},
		{"\xc2\x9b"
		 "31m",
		 "  31m"},
		{"\xe4\xba\xac \xf0\x9f\x98\x80", "\xe4\xba\xac \xf0\x9f\x98\x80"},
		{"\x7f", " "},
	};
	json_t *status;
	char longer[500];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
	{
		health_error(HEALTH_PATH_CENTER, "%s", cases[i].given);
		status = read_status(true);
		assert_string_equal(json_string_value(json_object_get(json_object_get(status, "register"), "error")),
							cases[i].kept);
		json_decref(status);
	}
	memset(longer, '\xc3', sizeof longer);
	for (size_t i = 1; i < sizeof longer; i += 2)
		longer[i] = '\xa9';
	longer[sizeof longer - 1] = '\0';
	health_error(HEALTH_PATH_CENTER, "%s", longer);
	json_decref(read_status(true));
	health_ok(HEALTH_PATH_CENTER);
}

static void last_errors(void **state)
{
	json_t *status, *errors, *one;

	health_error(HEALTH_CLEANER, "no answer after 7 ms");
	health_error(HEALTH_INTAKE, "the disk is full");
	health_error(HEALTH_CLEANER, "no answer after 12 ms");
	status = read_status(false);
	assert_string_equal(json_string_value(json_object_get(status, "error")), "intake: the disk is full");
	json_decref(status);
	health_ok(HEALTH_INTAKE);
	health_ok(HEALTH_CLEANER);
	status = read_status(true);
	assert_true(json_is_null(json_object_get(status, "error")));
	errors = json_object_get(status, "errors");
	assert_int_equal(json_array_size(errors), 3); /* with the one of the test before */
	one = json_array_get(errors, 0);
	assert_string_equal(json_string_value(json_object_get(one, "part")), "cleaner");
	assert_int_equal(json_integer_value(json_object_get(one, "count")), 2); /* the same but for the number */
	assert_string_equal(json_string_value(json_object_get(one, "error")), "no answer after 12 ms");
	assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 1), "error")), "the disk is full");
	json_decref(status);
	for (int i = 0; i < 3 * HEALTH_ERRORS; i++)
		health_error(HEALTH_CACHE_SERVER, "%c", 'a' + i);
	health_ok(HEALTH_CACHE_SERVER);
	status = read_status(true);
	errors = json_object_get(status, "errors");
	assert_int_equal(json_array_size(errors), HEALTH_ERRORS);
	assert_string_equal(json_string_value(json_object_get(json_array_get(errors, HEALTH_ERRORS - 1), "error")), "q");
	json_decref(status);
}

/* Without a cache, as when only the ledger is at hand, the disk is unknown. */
static void without_cache(void **state)
{
	ServiceContext without = context;
	char *text;
	json_t *status;

	without.cache = NULL;
	text = status_json(&without, false);
	status = json_loads(text, 0, NULL);
	assert_true(json_is_null(json_object_get(status, "free_bytes")));
	assert_true(json_is_null(json_object_get(status, "total_bytes")));
	json_decref(status);
	free(text);
}

#define HOURS(n) ((int64_t) (n) *INT64_C(3600000000))

static void safe_until(void **state)
{
	/* 1,000 bytes each, 10 an hour, 100,000 bytes free: ten hours. */
	StatusSpace space = {
		.now = 5, .free_bytes = 100000, .cached = 7, .cached_bytes = 7000, .unsafe = 7, .per_hour = 10};

	assert_int_equal(status_safe_until(&space), 5 + HOURS(10));
	space.reserve_bytes = 40000;
	assert_int_equal(status_safe_until(&space), 5 + HOURS(6));
	space.cached = 30;
	space.cached_bytes = 30000; /* 20 of them are safe in both centers and can go */
	space.unsafe = 10;
	assert_int_equal(status_safe_until(&space), 5 + HOURS(8));
	space.free_bytes = 0;
	space.unsafe = 30; /* nothing can go */
	assert_int_equal(status_safe_until(&space), 5);
	space.unsafe = 100;
	assert_int_equal(status_safe_until(&space), 5);
	space.free_bytes = INT64_MAX / 2;
	assert_int_equal(status_safe_until(&space), 0); /* further than anybody looks */
	space.free_bytes = 100000;
	space.per_hour = 0;
	assert_int_equal(status_safe_until(&space), 0);
	space.per_hour = -1;
	assert_int_equal(status_safe_until(&space), 0);
	space.per_hour = 10;
	space.cached = 0;
	assert_int_equal(status_safe_until(&space), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),       cmocka_unit_test(an_empty_ledger), cmocka_unit_test(captures_and_errors),
		cmocka_unit_test(last_errors), cmocka_unit_test(hostile_errors),  cmocka_unit_test(without_cache),
		cmocka_unit_test(safe_until),
	};

	return cmocka_run_group_tests(tests, open_ledger, close_ledger);
}
