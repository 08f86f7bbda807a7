/*
 * The status object, and the rate of intake.
 *
 * The rate is the growth of all ledgers' last seq over the last hour, from samples in a ring; a fork moves entries from one
 * ledger to another and leaves the sum as it is. `lock` guards the ring.
 */
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>

#include "../common/capture_record.h"
#include "clock.h"
#include "health.h"
#include "log.h"
#include "status.h"

#define LEDGERS_MAX 1024
#define SAMPLES     61
#define HOUR        (3600 * CLOCK_SECOND)
#define SHORTEST    (60 * CLOCK_SECOND) /* a rate over less than this says nothing */

typedef struct Sample
{
	int64_t at; /* monotonic, microseconds */
	int64_t total; /* captures ever taken in */
} Sample;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Sample samples[SAMPLES]; /* by lock; a ring, oldest first from `first` */
static int first, sample_count; /* by lock */

static LedgerInfo *list_ledgers(Ledger *ledger, int *count)
{
	LedgerInfo *ledgers = calloc(LEDGERS_MAX, sizeof *ledgers);

	if (ledgers && ledger_list(ledger, ledgers, LEDGERS_MAX, count) == TMS_OK)
		return ledgers;
	free(ledgers);
	return NULL;
}

bool status_sample(Ledger *ledger)
{
	int64_t now = clock_steady(), total = 0;
	int count;
	LedgerInfo *ledgers = list_ledgers(ledger, &count);

	if (!ledgers)
		return false;
	for (int i = 0; i < count; i++)
		total += ledgers[i].last_seq;
	free(ledgers);

	pthread_mutex_lock(&lock);
	if (sample_count > 0 && now - samples[(first + sample_count - 1) % SAMPLES].at < SHORTEST)
	{
		pthread_mutex_unlock(&lock);
		return true;
	}
	if (sample_count == SAMPLES)
	{
		first = (first + 1) % SAMPLES;
		sample_count--;
	}
	samples[(first + sample_count) % SAMPLES] = (Sample){.at = now, .total = total};
	sample_count++;
	pthread_mutex_unlock(&lock);
	return true;
}

/* Captures an hour from the oldest sample to `total` now; -1 when that is too short a time. */
static double intake_rate(int64_t total)
{
	int64_t now = clock_steady();
	double rate = -1;

	pthread_mutex_lock(&lock);
	if (sample_count > 0 && now - samples[first].at >= SHORTEST)
		rate = (double) (total - samples[first].total) * (double) HOUR / (double) (now - samples[first].at);
	pthread_mutex_unlock(&lock);
	return rate < 0 && rate > -1 ? 0 : rate;
}

int64_t status_safe_until(const StatusSpace *space)
{
	const double longest = 10.0 * 366 * 24; /* hours */
	double average, room, hours;

	if (space->per_hour <= 0 || space->cached <= 0)
		return 0;
	average = (double) space->cached_bytes / (double) space->cached;
	room = (double) (space->free_bytes - space->reserve_bytes);
	if (space->unsafe < space->cached)
		room += average * (double) (space->cached - space->unsafe); /* safe ones make room */
	if (room < 0)
		room = 0;
	hours = average > 0 ? room / (average * space->per_hour) : longest;
	return hours >= longest ? 0 : space->now + (int64_t) (hours * (double) HOUR);
}

/* A time as RFC 3339 text, null for 0. */
static json_t *json_time(int64_t at)
{
	char text[TMS_TIME_TEXT_SIZE];

	return at && tms_time_format(at, text) ? json_string(text) : json_null();
}

/* What the kernel says of the clock. */
static const char *clock_state(void)
{
	struct timex state = {0};
	int answer = adjtimex(&state);

	if (answer < 0)
		return "unknown";
	return answer == TIME_ERROR || (state.status & STA_UNSYNC) ? "unsynchronized" : "synchronized";
}

static json_t *json_destination(int64_t backlog, int64_t oldest, HealthPart part)
{
	HealthReport report = health_get(part);

	return json_pack("{s:I, s:o, s:o}", "backlog", (json_int_t) backlog, "oldest_at", json_time(oldest), "error",
					 report.error[0] ? json_string(report.error) : json_null());
}

static json_t *json_parts(void)
{
	json_t *parts = json_object();

	for (int i = 0; i < HEALTH_PART_COUNT; i++)
	{
		HealthReport report = health_get((HealthPart) i);

		json_object_set_new(parts, health_part_name((HealthPart) i),
							json_pack("{s:I, s:I, s:o, s:o, s:o}", "ok", (json_int_t) report.ok_count, "errors",
									  (json_int_t) report.error_count, "last_ok", json_time(report.last_ok),
									  "last_error", json_time(report.last_error), "error",
									  report.error[0] ? json_string(report.error) : json_null()));
	}
	return parts;
}

static json_t *json_ledgers(const LedgerInfo *ledgers, int count)
{
	json_t *array = json_array();

	for (int i = 0; i < count; i++)
	{
		const LedgerInfo *one = &ledgers[i];
		char uuid[TMS_UUID_TEXT_SIZE];

		tms_uuid_format(&one->ledger, uuid);
		json_array_append_new(array,
							  json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "ledger", uuid, "sealed",
										one->sealed, "oldest_seq", (json_int_t) one->oldest_seq, "last_seq",
										(json_int_t) one->last_seq, "confirmed", (json_int_t) one->confirmed,
										"uploaded_seq", (json_int_t) one->uploaded_seq, "uploaded_max",
										(json_int_t) one->uploaded_max, "cleaned_seq", (json_int_t) one->cleaned_seq));
	}
	return array;
}

/* What is known of the disk: space is filled in but for the rate. */
static void add_space(json_t *status, const ServiceContext *context, const LedgerCounts *counts, double rate)
{
	int64_t free_bytes, total_bytes, backlog;
	bool known = context->cache && cache_space(context->cache, &free_bytes, &total_bytes) == TMS_OK;
	int64_t until = 0;

	if (known)
	{
		backlog = counts->upload_backlog > counts->register_backlog ? counts->upload_backlog : counts->register_backlog;
		until = status_safe_until(&(StatusSpace){
			.now = clock_now(),
			.free_bytes = free_bytes,
			.reserve_bytes = total_bytes / 100 * context->config->min_free_percent,
			.cached = counts->cached,
			.cached_bytes = counts->cached_bytes,
			.unsafe = backlog + counts->set_aside,
			.per_hour = rate,
		});
	}
	json_object_set_new(status, "free_bytes", known ? json_integer(free_bytes) : json_null());
	json_object_set_new(status, "total_bytes", known ? json_integer(total_bytes) : json_null());
	json_object_set_new(status, "safe_until", json_time(until));
}

char *status_json(const ServiceContext *context, bool local)
{
	LedgerCounts counts;
	int ledger_count;
	LedgerInfo *ledgers = list_ledgers(context->ledger, &ledger_count);
	json_t *status;
	int64_t total = 0, now = clock_now();
	double rate;
	char *text;

	if (!ledgers || ledger_counts(context->ledger, &counts) != TMS_OK)
	{
		free(ledgers);
		return NULL;
	}
	for (int i = 0; i < ledger_count; i++)
		total += ledgers[i].last_seq;
	rate = intake_rate(total);
	status = json_pack("{s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "version", TMS_VERSION, "at", json_time(now), "clock",
					   json_time(clock_now()), "upload",
					   json_destination(counts.upload_backlog, counts.upload_oldest, HEALTH_IMAGE_CENTER), "register",
					   json_destination(counts.register_backlog, counts.register_oldest, HEALTH_PATH_CENTER), "cached",
					   (json_int_t) counts.cached, "cached_bytes", (json_int_t) counts.cached_bytes);
	add_space(status, context, &counts, rate);
	json_object_set_new(status, "set_aside", json_integer(counts.set_aside));
	json_object_set_new(status, "intake_per_hour", rate < 0 ? json_null() : json_integer((json_int_t) (rate + 0.5)));
	if (local)
	{
		json_object_set_new(status, "device", json_string(context->config->device));
		json_object_set_new(status, "clock_state", json_string(clock_state()));
		json_object_set_new(status, "parts", json_parts());
		json_object_set_new(status, "ledgers", json_ledgers(ledgers, ledger_count));
	}
	free(ledgers);
	text = json_dumps(status, JSON_COMPACT);
	json_decref(status);
	return text;
}
