/*
 * `tms-agent status`: how the agent is doing, as a table for a technician or as JSON for programs.
 *
 * The running agent is asked by way of its intake listener. When there is none, or nobody answers, the status file tells how
 * it was when the agent last looked; the ledger itself is never opened beside the agent.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/capture_record.h"
#include "cli.h"
#include "cli_http.h"
#include "clock.h"
#include "config.h"
#include "data_lock.h"
#include "json_field.h"
#include "status_file.h"
#include "status_text.h"

typedef struct Answer
{
	json_t *status; /* NULL: nothing is known */
	bool running;
	bool asked; /* by the agent itself, just now */
	int process;
	char why[CLI_HTTP_WHY_SIZE]; /* the running agent could not be asked: a phrase */
} Answer;

static void ask_agent(const Config *config, Answer *answer)
{
	CliRequest request = {
		.listen = config->intake_listen,
		.method = "GET",
		.target = "/v1/status",
		.token = config->intake_token,
		.body = -1,
	};
	CliResponse response;

	if (cli_http(&request, &response, answer->why) != TMS_OK)
		return;
	answer->status = response.status == 200 ? json_loads(response.body, 0, NULL) : NULL;
	if (!answer->status)
		snprintf(answer->why, sizeof answer->why, "%s answers HTTP %d", config->intake_listen, response.status);
	answer->asked = answer->status != NULL;
	free(response.body);
}

static void find_status(const Config *config, Answer *answer)
{
	char *text;

	answer->running = data_lock_held(config->data_dir, &answer->process);
	if (answer->running && *config->intake_listen)
		ask_agent(config, answer);
	else if (answer->running)
		snprintf(answer->why, sizeof answer->why, "[intake] listen is not set");
	if (answer->status)
		return;
	text = status_file_read(config->data_dir);
	if (text)
		answer->status = json_loads(text, 0, NULL);
	free(text);
}

/* How long a time text lies back, or ahead; "" when it is none. */
static const char *age_of(const char *at, char out[STATUS_TEXT_SIZE])
{
	int64_t time;

	out[0] = '\0';
	return tms_time_parse(at, strlen(at), &time) ? status_text_span(clock_now() - time, out) : out;
}

static const char *ahead_of(const char *at, char out[STATUS_TEXT_SIZE])
{
	int64_t time;

	out[0] = '\0';
	return tms_time_parse(at, strlen(at), &time) ? status_text_span(time - clock_now(), out) : out;
}

static void print_destination(const char *title, const json_t *part)
{
	const char *oldest = json_field_text(part, "oldest_at"), *error = json_field_text(part, "error");
	char age[STATUS_TEXT_SIZE];
	int64_t backlog = json_field_number(part, "backlog"), requested = json_field_number(part, "requested");

	printf("%-14s", title);
	if (backlog == 0)
		printf("nothing waits");
	else
		printf("%" PRId64 " waiting, the oldest for %s", backlog, age_of(oldest, age));
	if (requested > 0)
		printf(", %" PRId64 "%s of them sent again by request", requested, requested >= 100000 ? " or more" : "");
	if (*error)
		printf("; error: %s", error);
	putchar('\n');
}

static void print_cleaning(const json_t *cleaning)
{
	static const struct
	{
		const char *state, *text;
	} states[] = {
		{"disk_low", "; the disk is low: what is expired leaves faster"},
		{"disk_low_early", "; the disk is low: what is safe in both centers leaves early"},
		{"disk_low_stuck", "; the disk is low, and nothing that is safe is left to leave"},
	};
	int64_t period = json_field_number(cleaning, "period_seconds"),
			early = json_field_number(cleaning, "cleaned_early");
	char text[STATUS_TEXT_SIZE];

	printf("%-14s", "cleaning");
	if (period > 0)
		printf("after %s", status_text_span(period * CLOCK_SECOND, text));
	else
		printf("nothing: the path center has not told a period yet");
	printf("; %" PRId64 " cleaned", json_field_number(cleaning, "cleaned"));
	if (early > 0)
		printf(", %" PRId64 " of them early", early);
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
		if (strcmp(json_field_text(cleaning, "state"), states[i].state) == 0)
			fputs(states[i].text, stdout);
	putchar('\n');
}

static void print_cache(const json_t *status)
{
	const json_t *rate = json_object_get(status, "intake_per_hour");
	int64_t free_bytes = json_field_number(status, "free_bytes"), total = json_field_number(status, "total_bytes");
	const char *until = json_field_text(status, "safe_until");
	char held[STATUS_TEXT_SIZE], free_text[STATUS_TEXT_SIZE], total_text[STATUS_TEXT_SIZE], left[STATUS_TEXT_SIZE];

	printf("%-14s%" PRId64 " photographs, %s\n", "cache", json_field_number(status, "cached"),
		   status_text_size(json_field_number(status, "cached_bytes"), held));
	if (total > 0)
		printf("%-14s%s free of %s (%.0f %%)\n", "disk", status_text_size(free_bytes, free_text),
			   status_text_size(total, total_text), 100.0 * (double) free_bytes / (double) total);
	if (json_is_integer(rate))
		printf("%-14s%" PRId64 " an hour\n", "intake", (int64_t) json_integer_value(rate));
	if (*until)
		printf("%-14s%s (in %s), if the image center stays away\n", "safe until", until, ahead_of(until, left));
	else
		printf("%-14s%s\n", "safe until",
			   json_is_null(rate)             ? "not known yet"
			   : json_integer_value(rate) > 0 ? "more than ten years ahead, if the image center stays away"
											  : "not known: nothing comes in");
	print_cleaning(json_object_get(status, "cleaning"));
	if (json_field_number(status, "set_aside") > 0)
		printf("%-14s%" PRId64 " photographs cannot be uploaded or are damaged: see the log\n", "set aside",
			   json_field_number(status, "set_aside"));
}

static void print_parts(const json_t *parts)
{
	const char *name;
	json_t *part;

	if (json_object_size(parts) == 0)
		return;
	printf("\n%-14s %10s %10s  %-27s  %s\n", "part", "worked", "failed", "last worked", "present error");
	json_object_foreach ((json_t *) parts, name, part)
	{
		const char *last = json_field_text(part, "last_ok"), *error = json_field_text(part, "error");

		printf("%-14s %10" PRId64 " %10" PRId64 "  %-27s  %s\n", name, json_field_number(part, "ok"),
			   json_field_number(part, "errors"), *last ? last : "-", *error ? error : "-");
	}
}

static void print_errors(const json_t *errors)
{
	size_t i;
	json_t *one;

	if (json_array_size(errors) == 0)
		return;
	printf("\n%-27s  %6s  %-14s %s\n", "last errors", "times", "part", "error");
	json_array_foreach ((json_t *) errors, i, one)
		printf("%-27s  %6" PRId64 "  %-14s %s\n", json_field_text(one, "last_at"), json_field_number(one, "count"),
			   json_field_text(one, "part"), json_field_text(one, "error"));
}

static void print_ledgers(const json_t *ledgers)
{
	size_t i;
	json_t *one;

	if (json_array_size(ledgers) == 0)
		return;
	printf("\n%-36s  %-6s %10s %10s %10s %10s\n", "ledger", "state", "last", "registered", "uploaded", "cleaned");
	json_array_foreach ((json_t *) ledgers, i, one)
		printf("%-36s  %-6s %10" PRId64 " %10" PRId64 " %10" PRId64 " %10" PRId64 "\n", json_field_text(one, "ledger"),
			   json_is_true(json_object_get(one, "sealed")) ? "sealed" : "active", json_field_number(one, "last_seq"),
			   json_field_number(one, "confirmed"), json_field_number(one, "uploaded_seq"),
			   json_field_number(one, "cleaned_seq"));
}

static void print_table(const Config *config, const Answer *answer)
{
	const json_t *status = answer->status;
	char age[STATUS_TEXT_SIZE];

	printf("device %s: ", config->device);
	if (!answer->running)
		printf("the agent is not running\n");
	else if (answer->asked)
		printf("running, process %d\n", answer->process);
	else
		printf("running, process %d, but cannot be asked: %s\n", answer->process, answer->why);
	if (!status)
	{
		printf("nothing is known of its ledger\n");
		return;
	}
	if (answer->asked)
		printf("%-14s%s, clock %s\n", "as of", json_field_text(status, "at"), json_field_text(status, "clock_state"));
	else
		printf("%-14s%s, %s ago: what the agent saw last\n", "as of", json_field_text(status, "at"),
			   age_of(json_field_text(status, "at"), age));
	print_destination("image center", json_object_get(status, "upload"));
	print_destination("path center", json_object_get(status, "register"));
	print_cache(status);
	print_parts(json_object_get(status, "parts"));
	print_errors(json_object_get(status, "errors"));
	print_ledgers(json_object_get(status, "ledgers"));
}

static void print_json(const Answer *answer)
{
	json_t *out = answer->status ? json_copy(answer->status) : json_object();

	json_object_set_new(out, "running", json_boolean(answer->running));
	json_object_set_new(out, "asked", json_boolean(answer->asked));
	json_object_set_new(out, "process", answer->process ? json_integer(answer->process) : json_null());
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(out);
}

int cli_status(const CliOptions *options)
{
	Answer answer = {0};
	Config *config;

	if (config_load(options->config, &config) != TMS_OK)
		return CLI_USAGE;
	find_status(config, &answer);
	if (options->json)
		print_json(&answer);
	else
		print_table(config, &answer);
	json_decref(answer.status);
	config_free(config);
	if (!answer.running)
		return CLI_AWAY;
	return answer.asked || answer.status ? CLI_OK : CLI_FAILED;
}
