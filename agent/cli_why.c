/*
 * `tms-agent why CAPTURE...`: what happened to a capture, by which rule, with which receipts; or why it is still here.
 *
 * Reads ledger.db itself, beside the agent or without one: what it tells must not depend on an agent that answers.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "cli.h"
#include "clock.h"
#include "config.h"
#include "json_field.h"
#include "ledger_view.h"
#include "status_text.h"

#define STORIES_MAX 64

static const char *const verified_by[] = {
	[LEDGER_NOT_VERIFIED] = "not recorded: uploaded by an older version",
	[LEDGER_VERIFIED_LENGTH] = "its size",
	[LEDGER_VERIFIED_TOLD] = "its size and digest, as the store tells it",
	[LEDGER_VERIFIED_READ] = "its bytes, read back, have the digest",
};

/* What the decisions about a capture go by now. */
typedef struct Present
{
	int64_t now;
	int64_t period;
	int64_t free_bytes; /* -1: not known */
	int64_t min_free_bytes;
} Present;

/* --- what is asked for --- */

static bool read_number(const char *text, int base, int64_t *out)
{
	char *end;

	*out = strtoll(text, &end, base);
	return end != text && *end == '\0' && *out > 0;
}

/* SEQ, capture id, LEDGER:SEQ, or a storage path; false for anything else. */
static bool read_question(const char *text, LedgerQuestion *question)
{
	const char *colon = strchr(text, ':');
	int64_t number;

	memset(question, 0, sizeof *question);
	if (strchr(text, '/'))
	{
		question->path = text;
		return tms_storage_path_valid(text, strlen(text));
	}
	if (!colon && read_number(text, 10, &number))
	{
		question->seq = number;
		if (number <= TMS_SEQ_MAX)
			return true;
		question->has_number = true;
		question->number = tms_capture_ledger_no(number);
		question->seq = tms_capture_seq(number);
		return true;
	}
	if (!colon || !read_number(colon + 1, 10, &question->seq))
		return false;
	question->has_uuid = tms_uuid_parse(text, (size_t) (colon - text), &question->uuid);
	if (question->has_uuid)
		return true;
	question->has_number = colon - text == 8 && strspn(text, "0123456789abcdefABCDEF") == 8;
	question->number = (int32_t) strtoul(text, NULL, 16);
	return question->has_number;
}

/* --- the story, as JSON --- */

static json_t *json_text(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *uploaded_json(const LedgerStory *story)
{
	const LedgerEntry *entry = &story->entry;

	return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o}", "at", json_time(entry->uploaded_at), "verified_by",
					 entry->uploaded_at ? json_string(verified_by[story->verified]) : json_null(), "etag",
					 entry->uploaded_at ? json_text(entry->etag) : json_null(), "requested_again", entry->requested,
					 "missing_at", json_time(story->missing_at), "missing", json_text(story->missing), "set_aside",
					 json_text(story->aside));
}

static void add_reason(json_t *reasons, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_reason(json_t *reasons, const char *format, ...)
{
	char text[300];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	json_array_append_new(reasons, json_string(text));
}

/* What keeps it from being expired. */
static void add_age_reasons(json_t *reasons, const LedgerStory *story, const Present *present)
{
	const LedgerEntry *entry = &story->entry;
	int64_t period = present->period, before = present->now - period;

	if (period == 0)
		add_reason(reasons, "no cleaning period is known yet");
	else if (story->age < period)
		add_reason(reasons,
				   "not expired: it is in the cache for %" PRId64 " s of elapsed time, the cleaning period is %" PRId64
				   " s",
				   story->age < 0 ? 0 : story->age / CLOCK_SECOND, period / CLOCK_SECOND);
	else if (entry->taken_at >= before)
		add_reason(reasons,
				   "not expired by the agent's clock: taken in %" PRId64 " s ago, the cleaning period is %" PRId64 " s",
				   (present->now - entry->taken_at) / CLOCK_SECOND, period / CLOCK_SECOND);
	else if (entry->record.captured_at >= before)
		add_reason(reasons,
				   "not expired: captured %" PRId64 " s ago by its record, the cleaning period is %" PRId64 " s",
				   (present->now - entry->record.captured_at) / CLOCK_SECOND, period / CLOCK_SECOND);
}

/* Why the file is still in the cache: everything that stands against its deletion. */
static json_t *reasons_json(const LedgerStory *story, const Present *present)
{
	json_t *reasons = json_array();

	if (story->aside[0])
		add_reason(reasons, "it can never be uploaded: %s", story->aside);
	else if (!story->entry.uploaded_at)
		add_reason(reasons, "it is not verified in the image center");
	if (story->entry.seq > story->confirmed)
		add_reason(reasons, "it is not registered: the path center has confirmed its ledger up to %" PRId64,
				   story->confirmed);
	if (story->building)
		add_reason(reasons, "its ledger is being made again from the cache");
	add_age_reasons(reasons, story, present);
	if (json_array_size(reasons) == 0)
		add_reason(reasons, "nothing stands against it: it leaves once the image center confirms again that it has it");
	return reasons;
}

static json_t *cache_json(const LedgerStory *story, const Present *present)
{
	json_t *receipt = story->receipt[0] ? json_loads(story->receipt, 0, NULL) : NULL;
	json_t *cache =
		json_pack("{s:b, s:o, s:b, s:o}", "held", story->entry.held, "cleaned_at", json_time(story->cleaned_at),
				  "being_cleaned", story->cleaning, "receipt", receipt ? receipt : json_null());

	json_object_set_new(cache, "stays_because", story->entry.held ? reasons_json(story, present) : json_null());
	return cache;
}

static json_t *story_json(const LedgerStory *story, const Present *present)
{
	const LedgerEntry *entry = &story->entry;
	char uuid[TMS_UUID_TEXT_SIZE], sha256[TMS_SHA256_HEX_SIZE];

	tms_uuid_format(&entry->ledger, uuid);
	tms_sha256_hex(entry->sha256, sha256);
	return json_pack("{s:s, s:b, s:I, s:I, s:s, s:s, s:I, s:o, s:o, s:o, s:{s:b, s:o, s:o, s:I}, s:o, s:o, s:o, s:o}",
					 "ledger", uuid, "sealed", story->sealed, "seq", (json_int_t) entry->seq, "capture_id",
					 (json_int_t) tms_capture_id(tms_ledger_number(&entry->ledger), entry->seq), "path", entry->path,
					 "sha256", sha256, "bytes", (json_int_t) entry->bytes, "taken_at", json_time(entry->taken_at),
					 "captured_at", json_time(entry->record.captured_at), "uploaded", uploaded_json(story),
					 "registered", "confirmed", entry->seq <= story->confirmed, "at", json_time(story->confirmed_at),
					 "report_no", story->report_no ? json_integer(story->report_no) : json_null(), "ledger_confirmed",
					 (json_int_t) story->confirmed, "cache", cache_json(story, present), "cleaning_period_seconds",
					 present->period ? json_integer(present->period / CLOCK_SECOND) : json_null(), "free_bytes",
					 present->free_bytes >= 0 ? json_integer(present->free_bytes) : json_null(), "min_free_bytes",
					 json_integer(present->min_free_bytes));
}

/* --- the story, as text --- */

static void print_uploaded(const json_t *uploaded)
{
	const char *etag = json_field_text(uploaded, "etag"), *at = json_field_text(uploaded, "at");

	if (at[0])
		printf("%-12s %s, verified by %s%s%s\n", "uploaded", at, json_field_text(uploaded, "verified_by"),
			   etag[0] ? ", entity tag " : "", etag);
	else
		printf("%-12s no%s\n", "uploaded",
			   json_is_true(json_object_get(uploaded, "requested_again")) ? ": an upload request waits for it" : "");
	if (json_field_text(uploaded, "missing_at")[0])
		printf("%-12s %s: the image center did not hold it, %s\n", "", json_field_text(uploaded, "missing_at"),
			   json_field_text(uploaded, "missing"));
	if (json_field_text(uploaded, "set_aside")[0])
		printf("%-12s set aside: %s\n", "", json_field_text(uploaded, "set_aside"));
}

static void print_registered(const json_t *registered)
{
	if (!json_is_true(json_object_get(registered, "confirmed")))
		printf("%-12s no: the path center has confirmed this ledger up to %" PRId64 "\n", "registered",
			   json_field_number(registered, "ledger_confirmed"));
	else if (!json_field_text(registered, "at")[0])
		printf("%-12s yes; when was not recorded\n", "registered");
	else
		printf("%-12s %s, in answer to report %" PRId64 "\n", "registered", json_field_text(registered, "at"),
			   json_field_number(registered, "report_no"));
}

static void print_cleaned(const json_t *cache)
{
	const json_t *receipt = json_object_get(cache, "receipt");
	const char *etag = json_field_text(receipt, "etag");

	printf("%-12s %s", "cleaned",
		   json_field_text(cache, "cleaned_at")[0] ? json_field_text(cache, "cleaned_at")
												   : "yes; when was not recorded");
	if (!json_is_object(receipt))
	{
		printf("\n");
		return;
	}
	if (strcmp(json_field_text(receipt, "rule"), "expired") == 0)
		printf(", by the rule \"expired\": %" PRId64 " s old, cleaning period %" PRId64 " s\n",
			   json_field_number(receipt, "age_seconds"), json_field_number(receipt, "period_seconds"));
	else
		printf(", by the rule \"%s\": %" PRId64 " bytes were free, %" PRId64 " wanted; %" PRId64
			   " s old, cleaning period %" PRId64 " s\n",
			   json_field_text(receipt, "rule"), json_field_number(receipt, "free_bytes"),
			   json_field_number(receipt, "min_free_bytes"), json_field_number(receipt, "age_seconds"),
			   json_field_number(receipt, "period_seconds"));
	printf("%-12s image center asked %s: %s, %" PRId64 " bytes%s%s; its clock said %s\n", "",
		   json_field_text(receipt, "asked_at"), json_field_text(receipt, "image_center"),
		   json_field_number(receipt, "bytes"), etag[0] ? ", entity tag " : "", etag,
		   json_field_text(receipt, "image_center_time")[0] ? json_field_text(receipt, "image_center_time")
															: "nothing");
}

static void print_story(const json_t *story)
{
	const json_t *cache = json_object_get(story, "cache");
	size_t i;
	json_t *reason;
	char free_text[STATUS_TEXT_SIZE], wanted_text[STATUS_TEXT_SIZE];

	printf("%-12s %s (%s), seq %" PRId64 ", capture id %" PRId64 "\n", "ledger", json_field_text(story, "ledger"),
		   json_is_true(json_object_get(story, "sealed")) ? "sealed" : "active", json_field_number(story, "seq"),
		   json_field_number(story, "capture_id"));
	printf("%-12s %s, %" PRId64 " bytes\n", "path", json_field_text(story, "path"), json_field_number(story, "bytes"));
	printf("%-12s %s\n", "sha256", json_field_text(story, "sha256"));
	printf("%-12s %s, captured %s\n", "taken in", json_field_text(story, "taken_at"),
		   json_field_text(story, "captured_at"));
	print_uploaded(json_object_get(story, "uploaded"));
	print_registered(json_object_get(story, "registered"));
	if (!json_is_true(json_object_get(cache, "held")))
	{
		print_cleaned(cache);
		return;
	}
	printf("%-12s yes%s\n", "in the cache",
		   json_is_true(json_object_get(cache, "being_cleaned")) ? "; its deletion was begun and not ended" : "");
	json_array_foreach (json_object_get(cache, "stays_because"), i, reason)
		printf("%-12s %s\n", i == 0 ? "because" : "and", json_string_value(reason));
	if (json_is_integer(json_object_get(story, "free_bytes")))
		printf("%-12s %s free, %s wanted\n", "disk",
			   status_text_size(json_field_number(story, "free_bytes"), free_text),
			   status_text_size(json_field_number(story, "min_free_bytes"), wanted_text));
}

/* --- the command --- */

static void look_at_disk(const Config *config, Present *present)
{
	struct statvfs about;

	present->free_bytes = -1;
	if (statvfs(config->data_dir, &about) != 0)
		return;
	present->free_bytes = (int64_t) about.f_bavail * (int64_t) about.f_frsize;
	present->min_free_bytes = (int64_t) about.f_blocks * (int64_t) about.f_frsize / 100 * config->min_free_percent;
}

static int tell(LedgerView *view, const Present *present, const char *name, bool as_json)
{
	static LedgerStory stories[STORIES_MAX];
	LedgerQuestion question;
	int count;

	if (!read_question(name, &question))
	{
		fprintf(stderr, "tms-agent why: %s is no seq, capture id, LEDGER:SEQ or storage path\n", name);
		return CLI_USAGE;
	}
	if (ledger_view_find(view, &question, stories, STORIES_MAX, &count) != TMS_OK)
	{
		fprintf(stderr, "tms-agent why: the ledger could not be read\n");
		return CLI_FAILED;
	}
	if (count == 0)
	{
		fprintf(stderr, "tms-agent why: %s is not in the ledger: never taken in, or dropped after ledger_keep\n", name);
		return CLI_FAILED;
	}
	for (int i = 0; i < count; i++)
	{
		json_t *story = story_json(&stories[i], present);

		if (as_json)
		{
			json_dumpf(story, stdout, JSON_COMPACT);
			putchar('\n');
		}
		else
		{
			if (i > 0)
				putchar('\n');
			print_story(story);
		}
		json_decref(story);
	}
	return CLI_OK;
}

int cli_why(const CliOptions *options)
{
	Present present = {.now = clock_now()};
	Config *config;
	LedgerView *view;
	int code = CLI_OK;

	if (config_load(options->config, &config) != TMS_OK)
		return CLI_USAGE;
	if (ledger_view_open(config->data_dir, &view) != TMS_OK)
	{
		fprintf(stderr, "tms-agent why: %s/ledger.db cannot be read\n", config->data_dir);
		config_free(config);
		return CLI_FAILED;
	}
	present.period = ledger_view_period(view);
	look_at_disk(config, &present);
	for (int i = 0; i < options->argument_count; i++)
	{
		int one = tell(view, &present, options->arguments[i], options->json);

		code = one > code ? one : code;
	}
	ledger_view_close(view);
	config_free(config);
	return code;
}
