/*
 * The status object and the figures in it.
 *
 * The rate behind safe_until is that of the last hour or of the last day, whichever is greater: a box looked at before the
 * morning's traffic is not safe for longer than one looked at in it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>

#include "cleaner_state.h"
#include "clock.h"
#include "health.h"
#include "json_field.h"
#include "status.h"
#include "status_history.h"

#define LEDGERS_MAX 1024
#define HOUR        (3600 * CLOCK_SECOND)
#define DAY         (24 * HOUR)

static LedgerInfo *list_ledgers(Ledger *ledger, int *count)
{
	LedgerInfo *ledgers = calloc(LEDGERS_MAX, sizeof *ledgers);

	if (ledgers && ledger_list(ledger, ledgers, LEDGERS_MAX, count) == TMS_OK)
		return ledgers;
	free(ledgers);
	return NULL;
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

const char *status_clock_state(void)
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

static json_t *json_errors(void)
{
	HealthError errors[HEALTH_ERRORS];
	json_t *array = json_array();
	int count = health_errors(errors);

	for (int i = 0; i < count; i++)
		json_array_append_new(array,
							  json_pack("{s:s, s:s, s:I, s:o, s:o}", "part", health_part_name(errors[i].part), "error",
										errors[i].error, "count", (json_int_t) errors[i].count, "first_at",
										json_time(errors[i].first_at), "last_at", json_time(errors[i].last_at)));
	return array;
}

/* The present error of a part that is no destination. */
static json_t *json_part_error(void)
{
	static const HealthPart parts[] = {HEALTH_INTAKE, HEALTH_CACHE_SERVER, HEALTH_CLEANER};

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
	{
		HealthReport report = health_get(parts[i]);

		if (report.error[0])
			return json_sprintf("%s: %s", health_part_name(parts[i]), report.error);
	}
	return json_null();
}

static json_t *json_known(int64_t number)
{
	return number < 0 ? json_null() : json_integer(number);
}

/* How long the disk lasts. */
static void read_space(const ServiceContext *context, StatusFigures *figures)
{
	const LedgerCounts *counts = &figures->counts;
	int64_t taken = status_history_taken();
	double day = status_history_rate(taken, DAY);

	figures->free_bytes = figures->total_bytes = -1;
	figures->per_hour = status_history_rate(taken, HOUR);
	figures->safe_until = 0;
	if (!context->cache || cache_space(context->cache, &figures->free_bytes, &figures->total_bytes) != TMS_OK)
	{
		figures->free_bytes = figures->total_bytes = -1;
		return;
	}
	figures->safe_until = status_safe_until(&(StatusSpace){
		.now = figures->at,
		.free_bytes = figures->free_bytes,
		.reserve_bytes = figures->total_bytes / 100 * context->config->min_free_percent,
		.cached = counts->cached,
		.cached_bytes = counts->cached_bytes,
		.unsafe =
			(counts->upload_backlog > counts->register_backlog ? counts->upload_backlog : counts->register_backlog) +
			counts->set_aside,
		.per_hour = day > figures->per_hour ? day : figures->per_hour,
	});
}

bool status_read(const ServiceContext *context, StatusFigures *out)
{
	out->at = clock_now();
	if (ledger_counts(context->ledger, &out->counts) != TMS_OK)
		return false;
	read_space(context, out);
	return true;
}

static StatusSample sample_of(const StatusFigures *figures)
{
	return (StatusSample){
		.at = clock_steady(),
		.taken = status_history_taken(),
		.upload_backlog = figures->counts.upload_backlog,
		.register_backlog = figures->counts.register_backlog,
		.free_bytes = figures->free_bytes,
	};
}

bool status_sample(const ServiceContext *context)
{
	StatusFigures figures;
	StatusSample sample;

	if (!status_read(context, &figures))
		return false;
	sample = sample_of(&figures);
	status_history_add(&sample);
	return true;
}

static void add_local(json_t *status, const ServiceContext *context, const StatusFigures *figures,
					  const LedgerInfo *ledgers, int count)
{
	StatusSample now = sample_of(figures);

	json_object_set_new(status, "device", json_string(context->config->device));
	json_object_set_new(status, "clock_state", json_string(status_clock_state()));
	json_object_set_new(status, "parts", json_parts());
	json_object_set_new(status, "errors", json_errors());
	json_object_set_new(status, "ledgers", json_ledgers(ledgers, count));
	json_object_set_new(status, "history", status_history_json(&now));
}

/* The last upload requests, and what became of them. */
static json_t *json_requests(Ledger *ledger)
{
	LedgerRequest requests[LEDGER_REQUESTS];
	json_t *array = json_array();
	int count;

	if (ledger_requests(ledger, requests, LEDGER_REQUESTS, &count) != TMS_OK)
		return array;
	for (int i = 0; i < count; i++)
		json_array_append_new(
			array, json_pack("{s:I, s:o, s:I, s:I, s:o}", "id", (json_int_t) requests[i].id, "taken_at",
							 json_time(requests[i].taken_at), "held", (json_int_t) requests[i].held, "not_held",
							 (json_int_t) requests[i].not_held, "done_at", json_time(requests[i].done_at)));
	return array;
}

/* Which cleaning period holds, how full the disk is as the cleaner sees it, and what left the cache. */
static json_t *json_cleaning(Ledger *ledger, const LedgerCounts *counts)
{
	int64_t period = ledger_cleaning_period(ledger), offered = ledger_offered_period(ledger);

	return json_pack("{s:s, s:o, s:o, s:I, s:I}", "state", cleaner_state_name(), "period_seconds",
					 json_known(period > 0 ? period / CLOCK_SECOND : -1), "offered_seconds",
					 json_known(offered > 0 ? offered / CLOCK_SECOND : -1), "cleaned", (json_int_t) counts->cleaned,
					 "cleaned_early", (json_int_t) counts->cleaned_early);
}

static json_t *status_object(const ServiceContext *context, bool local)
{
	StatusFigures figures;
	const LedgerCounts *counts = &figures.counts;
	int ledger_count;
	LedgerInfo *ledgers = list_ledgers(context->ledger, &ledger_count);
	json_t *status, *upload;

	if (!ledgers || !status_read(context, &figures))
	{
		free(ledgers);
		return NULL;
	}
	upload = json_destination(counts->upload_backlog, counts->upload_oldest, HEALTH_IMAGE_CENTER);
	json_object_set_new(upload, "requested", json_integer(counts->upload_requested));
	json_object_set_new(upload, "requests", json_requests(context->ledger));
	status = json_pack("{s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o}", "version", TMS_VERSION,
					   "at", json_time(figures.at), "clock", json_time(clock_now()), "upload", upload, "register",
					   json_destination(counts->register_backlog, counts->register_oldest, HEALTH_PATH_CENTER),
					   "cached", (json_int_t) counts->cached, "cached_bytes", (json_int_t) counts->cached_bytes,
					   "free_bytes", json_known(figures.free_bytes), "total_bytes", json_known(figures.total_bytes),
					   "safe_until", json_time(figures.safe_until), "set_aside", (json_int_t) counts->set_aside,
					   "intake_per_hour", json_known(figures.per_hour < 0 ? -1 : (int64_t) (figures.per_hour + 0.5)),
					   "error", json_part_error());
	json_object_set_new(status, "cleaning", json_cleaning(context->ledger, counts));
	if (local)
		add_local(status, context, &figures, ledgers, ledger_count);
	free(ledgers);
	return status;
}

char *status_json(const ServiceContext *context, bool local)
{
	json_t *status = status_object(context, local);
	char *text = status ? json_dumps(status, JSON_COMPACT) : NULL;

	json_decref(status);
	return text;
}
