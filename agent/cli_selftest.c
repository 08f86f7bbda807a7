/*
 * `tms-agent selftest`: looks at everything the agent rests on, before it has to: the disk, the clock, both centers. A table
 * for a technician, or JSON.
 *
 * Writes nothing that is left behind and nothing to a center: the image center is asked with the configured credentials for an
 * object that is not there, the path center is connected to. May run beside the agent.
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "config.h"
#include "disk_probe.h"
#include "registrar_link.h"
#include "status_text.h"
#include "upload_request.h"

#define STREAM_BYTES   (INT64_C(64) * 1024 * 1024)
#define CENTER_TIMEOUT (30 * CLOCK_SECOND)
#define CLOCK_APART    (5 * CLOCK_SECOND) /* more than a slow answer makes of it */

typedef enum CheckState
{
	CHECK_OK,
	CHECK_WARNING,
	CHECK_FAILED
} CheckState;

static const char *const state_names[] = {"ok", "warning", "failed"};

typedef struct SelfTest
{
	const Config *config;
	json_t *checks; /* of {name, state, text, and what was measured} */
	CheckState worst;
} SelfTest;

/* Adds one line of the table; `figures` (may be NULL) is taken over. */
static void add_check(SelfTest *test, const char *name, CheckState state, json_t *figures, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void add_check(SelfTest *test, const char *name, CheckState state, json_t *figures, const char *format, ...)
{
	json_t *check = figures ? figures : json_object();
	char text[800];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	json_object_set_new(check, "name", json_string(name));
	json_object_set_new(check, "state", json_string(state_names[state]));
	json_object_set_new(check, "text", json_string(text));
	json_array_append_new(test->checks, check);
	if (state > test->worst)
		test->worst = state;
}

/* --- the disk --- */

static CheckState state_of(DiskVerdict verdict)
{
	return verdict == DISK_GOOD ? CHECK_OK : verdict == DISK_DOUBTFUL ? CHECK_WARNING : CHECK_FAILED;
}

static void check_times(SelfTest *test, const DiskFacts *facts, int64_t bytes)
{
	DiskTimes times;
	char why[400];
	DiskVerdict verdict;
	TmsStatus status = disk_measure(test->config->data_dir, bytes, &times);

	if (status != TMS_OK)
	{
		add_check(test, "disk_sync", CHECK_FAILED, NULL, "cannot write to %s: %s", test->config->data_dir,
				  status == TMS_FULL ? "the disk is full" : "see its owner and mode");
		return;
	}
	verdict = disk_judge_times(facts, &times, why, sizeof why);
	add_check(test, "disk_sync", state_of(verdict),
			  json_pack("{s:I, s:I, s:I, s:I, s:f}", "median_us", (json_int_t) times.sync_median, "p99_us",
						(json_int_t) times.sync_p99, "longest_us", (json_int_t) times.sync_longest, "write_median_us",
						(json_int_t) times.write_median, "per_second",
						times.sync_median ? 1e6 / (double) times.sync_median : 0.0),
			  "4 kB and fdatasync: median %.2f ms, 99 %% within %.2f ms, longest %.2f ms%s%s",
			  (double) times.sync_median / 1000, (double) times.sync_p99 / 1000, (double) times.sync_longest / 1000,
			  *why ? "; " : "", why);
	if (times.bytes > 0 && times.bytes_micros > 0)
		add_check(test, "disk_write", CHECK_OK,
				  json_pack("{s:I, s:I}", "bytes", (json_int_t) times.bytes, "bytes_per_second",
							(json_int_t) ((double) times.bytes * 1e6 / (double) times.bytes_micros)),
				  "%.0f MB/s", (double) times.bytes / 1.048576 / (double) times.bytes_micros);
}

static void check_space(SelfTest *test, int64_t *free_bytes)
{
	struct statvfs space;
	char free_text[STATUS_TEXT_SIZE], total_text[STATUS_TEXT_SIZE];
	int64_t total, reserve;

	*free_bytes = 0;
	if (statvfs(test->config->data_dir, &space) != 0)
		return;
	*free_bytes = (int64_t) space.f_bavail * (int64_t) space.f_frsize;
	total = (int64_t) space.f_blocks * (int64_t) space.f_frsize;
	reserve = total / 100 * test->config->min_free_percent;
	add_check(test, "disk_space", *free_bytes < reserve ? CHECK_WARNING : CHECK_OK,
			  json_pack("{s:I, s:I}", "free_bytes", (json_int_t) *free_bytes, "total_bytes", (json_int_t) total),
			  "%s of %s free%s", status_text_size(*free_bytes, free_text), status_text_size(total, total_text),
			  *free_bytes < reserve ? ", less than [cache] min_free" : "");
}

static void check_disk(SelfTest *test)
{
	const char *folder = test->config->data_dir;
	DiskFacts facts;
	char why[400];
	DiskVerdict verdict;
	int64_t free_bytes;

	if (disk_facts(folder, &facts) != TMS_OK)
	{
		add_check(test, "disk", CHECK_FAILED, NULL, "cannot look at [agent] data_dir %s", folder);
		return;
	}
	verdict = disk_judge_facts(&facts, why, sizeof why);
	add_check(test, "disk", state_of(verdict),
			  json_pack("{s:s, s:s, s:s, s:s, s:o}", "file_system", facts.file_system, "options", facts.options,
						"device", facts.device, "write_cache", facts.write_cache, "rotational",
						facts.rotational < 0 ? json_null() : json_boolean(facts.rotational)),
			  "%s%s%s%s%s%s", facts.file_system, *facts.device ? " on " : "", facts.device,
			  facts.rotational == 1   ? ", rotating"
			  : facts.rotational == 0 ? ", not rotating"
									  : "",
			  *facts.write_cache ? ", cache: " : "", facts.write_cache);
	if (*why)
		add_check(test, "disk_kind", state_of(verdict), NULL, "%s", why);
	check_space(test, &free_bytes);
	check_times(test, &facts, free_bytes / 20 < STREAM_BYTES ? free_bytes / 20 : STREAM_BYTES);
	add_check(test, "disk_attributes", CHECK_OK, NULL, "%s",
			  disk_has_attributes(folder) ? "records travel in the attribute user.tms"
										  : "no user.* attributes here: records travel in side files");
	if (disk_has_noreplace(folder))
		add_check(test, "disk_rename", CHECK_OK, NULL, "renames without replacing");
	else
		add_check(test, "disk_rename", CHECK_FAILED, NULL,
				  "cannot rename without replacing (RENAME_NOREPLACE): intake refuses everything here");
}

/* --- the clock and the centers --- */

static void check_clock(SelfTest *test)
{
	struct timex state = {0};
	int answer = adjtimex(&state);
	bool in_step = answer >= 0 && answer != TIME_ERROR && !(state.status & STA_UNSYNC);

	add_check(test, "clock", in_step ? CHECK_OK : CHECK_WARNING, NULL, "%s",
			  in_step ? "synchronized" : "not synchronized by NTP, as far as the kernel knows");
}

static void check_store_clock(SelfTest *test, int64_t store_time)
{
	int64_t apart = clock_now() - store_time;

	if (store_time == 0)
		return;
	add_check(test, "image_center_clock", llabs(apart) > CLOCK_APART ? CHECK_WARNING : CHECK_OK,
			  json_pack("{s:I}", "seconds", (json_int_t) (apart / CLOCK_SECOND)),
			  "this clock is %lld seconds %s the store's", llabs(apart) / CLOCK_SECOND,
			  apart < 0 ? "behind" : "before");
}

/* Asks for an object that nobody has: by GET, since only the body of an answer tells what an S3 store minds. */
static void check_image_center(SelfTest *test)
{
	UploadObject object = {.bytes = 1};
	UploadResult result = {.outcome = UPLOAD_AWAY, .reason = "no answer"};
	UploadClient *client;
	int64_t end = clock_steady() + CENTER_TIMEOUT;
	bool answered = false;

	snprintf(object.path, sizeof object.path, "selftest/%016" PRIx64, (uint64_t) clock_now());
	if (upload_open(test->config, 1, &client) != TMS_OK)
		return;
	if (upload_start(client, UPLOAD_GET, &object, -1, NULL) == TMS_OK)
		while (!(answered = upload_next(client, &result)) && clock_steady() < end)
			upload_wait(client, -1, CLOCK_SECOND / 10);
	upload_close(client);
	if (result.outcome == UPLOAD_ABSENT || result.outcome == UPLOAD_OK || result.outcome == UPLOAD_DIFFERENT)
		add_check(test, "image_center", CHECK_OK, NULL,
				  "%s answers, and says of an object that is not there that it is not", test->config->url);
	else if (strstr(result.reason, "AccessDenied"))
		add_check(test, "image_center", CHECK_WARNING, NULL,
				  "%s: %s; all may be well: to who may not list the bucket a store says so of what is not there",
				  test->config->url, result.reason);
	else
		add_check(test, "image_center", CHECK_FAILED, NULL, "%s: %s", test->config->url, result.reason);
	if (answered)
		check_store_clock(test, result.store_time);
}

static void check_path_center(SelfTest *test)
{
	RegistrarLink *link;
	RegistrarError error = {0};
	TmsStatus status = registrar_link_open(test->config->conninfo, &link);

	if (status == TMS_OK)
	{
		status = registrar_link_connect(link, -1, &error);
		registrar_link_close(link);
	}
	else
		snprintf(error.reason, sizeof error.reason, "[path_center] conninfo is not a connection string");
	if (status == TMS_OK)
		add_check(test, "path_center", CHECK_OK, NULL,
				  "lets the agent in; the device's token shows with the first heartbeat");
	else
		add_check(test, "path_center", CHECK_FAILED, NULL, "%s", error.reason);
}

/* --- the command --- */

static void print_table(const SelfTest *test)
{
	json_t *check;
	size_t i;

	json_array_foreach (test->checks, i, check)
		printf("%-18s  %-7s  %s\n", json_string_value(json_object_get(check, "name")),
			   json_string_value(json_object_get(check, "state")), json_string_value(json_object_get(check, "text")));
}

int cli_selftest(const CliOptions *options)
{
	SelfTest test = {.worst = CHECK_OK};
	Config *config;

	if (config_load(options->config, &config) != TMS_OK)
		return CLI_USAGE;
	signal(SIGPIPE, SIG_IGN); /* a store that hangs up is an answer */
	test.config = config;
	test.checks = json_array();
	check_disk(&test);
	check_clock(&test);
	check_image_center(&test);
	check_path_center(&test);
	if (options->json)
	{
		json_t *all = json_pack("{s:s, s:O}", "state", state_names[test.worst], "checks", test.checks);

		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(all);
	}
	else
		print_table(&test);
	json_decref(test.checks);
	config_free(config);
	return test.worst == CHECK_FAILED ? CLI_FAILED : CLI_OK;
}
