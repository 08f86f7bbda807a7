/*
 * The cleaner: takes captures out of the cache once they are safe elsewhere and old enough (DESIGN 8.4). One thread.
 *
 * Safe: verified in the image center, again and right now, and confirmed by the path center (cleaner_batch.h). No answer is
 * never a permission: a store that is away ends the sweep. A store that does not have the object makes it go there again.
 *
 * Old enough, expired: taken in and captured longer ago than the cleaning period, all of it: by elapsed time, which no clock
 * that is set can make longer (ledger_elapsed.c); by the agent's clock; by the image center's, where it tells the time. A
 * clock that is wrong can only make it later.
 *
 * The ladder of a full disk, less than min_free of it being free: first what is expired and safe; when none of that is left,
 * what is safe and not expired, oldest first, until a little more than min_free is free; when there is none of that either,
 * nothing, and intake refuses. Never an unsafe one. cleaner_state.h tells where on it the cleaner stands.
 *
 * A sweep looks at so many captures at most, so that a mistake in one of the rules' inputs has a rate, not an instant.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "cleaner_batch.h"
#include "cleaner_state.h"
#include "clock.h"
#include "health.h"
#include "log.h"
#include "service.h"
#include "worker.h"

#define SWEEP_INTERVAL (2 * CLOCK_SECOND)
#define SWEEP_FILES    1024 /* about that many are asked about in a sweep */
#define SWEEP_LOOKS    40 /* looks into the ledger in a sweep: many captures may have to be passed that are not safe */

/* Between sweeps that made room on a full disk, but not enough. */
#define HURRY_INTERVAL (CLOCK_SECOND / 4)

#define TRIM_INTERVAL (3600 * CLOCK_SECOND)

typedef struct Cleaner
{
	ServiceContext context;
	Worker worker;
	UploadClient *client;
	Backoff backoff; /* the image center as the cleaner sees it */
	int64_t trim_at; /* by the steady clock */
	/* Where the last sweep ended; the next one goes on there, so that no entry keeps it from others. */
	LedgerCleanable expired;
	LedgerCleanable early;
	bool low; /* the disk was low, and room is made until there is a little more than min_free */
	bool was_stuck; /* the last sweep had nothing to make room with */
	bool hurry; /* the disk is low, and there may be more to make room with */
	CleanerBatch batch;
} Cleaner;

/* One sweep. */
typedef struct Sweep
{
	CleanerRule rule;
	CleanerOutcome outcome;
	int asked; /* captures that the image center was asked about */
	int looks;
} Sweep;

static bool measure_disk(Cleaner *cleaner, CleanerRule *rule)
{
	int64_t total;

	if (cache_space(cleaner->context.cache, &rule->free_bytes, &total) != TMS_OK)
		return false;
	rule->min_free_bytes = total / 100 * cleaner->context.config->min_free_percent;
	return true;
}

/* Bytes that have to be free; once the disk is low, a little more: else every capture would make it low again. */
static int64_t wanted_bytes(const Cleaner *cleaner, const CleanerRule *rule)
{
	return rule->min_free_bytes + (cleaner->low ? rule->min_free_bytes / 16 : 0);
}

static bool disk_low(Cleaner *cleaner, const CleanerRule *rule)
{
	cleaner->low = rule->free_bytes < wanted_bytes(cleaner, rule);
	return cleaner->low;
}

/* --- a sweep --- */

static void sweep_ended(Cleaner *cleaner, const Sweep *sweep)
{
	const char *reason = sweep->outcome.reason;
	char quoted[2 * sizeof sweep->outcome.reason];
	int64_t now = clock_steady();

	if (reason[0] == '\0')
		return; /* TERM */
	backoff_fail(&cleaner->backoff, &backoff_away, now);
	health_error(HEALTH_CLEANER, "%s", reason);
	log_event(LOG_LEVEL_WARNING, "cleaner_waits", "reason=%s retry_in_ms=%" PRId64,
			  log_quote(reason, quoted, sizeof quoted), (cleaner->backoff.retry_at - now) / 1000);
}

/* Leaves no more in an early batch than make the room that is wanted. */
static void cut_batch(Cleaner *cleaner, const Sweep *sweep, LedgerCleanable *place)
{
	CleanerBatch *batch = &cleaner->batch;
	int64_t missing = wanted_bytes(cleaner, &sweep->rule) - sweep->rule.free_bytes;

	for (int i = 0; i < batch->count - 1; i++)
	{
		missing -= batch->entries[i].bytes;
		if (missing > 0)
			continue;
		batch->count = i + 1;
		place->taken_at = batch->entries[i].taken_at;
		place->id = batch->entries[i].id;
		place->ended = false;
	}
}

/* The next batch behind `place`, cleaned. False when there is no more to do. */
static bool run_batch(Cleaner *cleaner, Sweep *sweep, LedgerCleanable *place)
{
	CleanerBatch *batch = &cleaner->batch;

	if (ledger_next_cleanable(cleaner->context.ledger, place, batch->entries, CLEANER_BATCH, &batch->count) != TMS_OK)
		return false;
	if (sweep->rule.early)
		cut_batch(cleaner, sweep, place);
	sweep->asked += batch->count;
	sweep->looks++;
	if (batch->count > 0)
		cleaner_batch_run(batch, &sweep->rule, &sweep->outcome);
	return !place->ended && !sweep->outcome.ended && sweep->asked < SWEEP_FILES && sweep->looks < SWEEP_LOOKS &&
		   !worker_stopping(cleaner->worker.stop_fd);
}

/* The next sweep begins again when this one has come to the end. True: it has. */
static bool come_round(LedgerCleanable *place)
{
	if (place->ended)
		place->taken_at = place->id = 0;
	return place->ended;
}

/* True when there are no more of them behind where the sweep ended. */
static bool clean_expired(Cleaner *cleaner, Sweep *sweep)
{
	LedgerCleanable *place = &cleaner->expired;

	place->ended = false;
	place->before = clock_now() - sweep->rule.period;
	place->last_id = ledger_aged(cleaner->context.ledger, sweep->rule.period);
	while (run_batch(cleaner, sweep, place))
		;
	return come_round(place);
}

/* Oldest first, until there is room. True when there are no more of them behind where the sweep ended. */
static bool clean_early(Cleaner *cleaner, Sweep *sweep)
{
	LedgerCleanable *place = &cleaner->early;

	place->ended = false;
	place->before = place->last_id = INT64_MAX;
	sweep->rule.early = true;
	sweep->looks = 0;
	while (run_batch(cleaner, sweep, place) && measure_disk(cleaner, &sweep->rule) && disk_low(cleaner, &sweep->rule))
		;
	if (sweep->outcome.cleaned > 0)
		log_event(LOG_LEVEL_WARNING, "cleaned_early", "files=%d reason=\"the disk is low\"", sweep->outcome.cleaned);
	if (sweep->outcome.ended)
		*place = (LedgerCleanable){0}; /* those that could not be asked about are still the oldest */
	return come_round(place);
}

/* Expired ones first; only when none of them is left others go. */
static CleanerState clean(Cleaner *cleaner, Sweep *sweep)
{
	bool none_left = sweep->rule.period <= 0 || clean_expired(cleaner, sweep);

	if (!cleaner->low)
	{
		cleaner->early = (LedgerCleanable){0}; /* the next time from the oldest on */
		return CLEANER_NORMAL;
	}
	if (sweep->outcome.ended)
		return sweep->outcome.cleaned > 0 ? CLEANER_DISK_LOW : CLEANER_DISK_LOW_STUCK;
	if (sweep->outcome.cleaned > 0 || !none_left)
		return CLEANER_DISK_LOW;
	none_left = clean_early(cleaner, sweep);
	if (sweep->outcome.cleaned == 0 && (none_left || sweep->outcome.ended))
		return CLEANER_DISK_LOW_STUCK;
	return CLEANER_DISK_LOW_EARLY;
}

static void run_sweep(Cleaner *cleaner)
{
	Sweep sweep = {.rule.period = ledger_cleaning_period(cleaner->context.ledger)};
	const CleanerOutcome *outcome = &sweep.outcome;
	CleanerState state;

	cleaner->low = measure_disk(cleaner, &sweep.rule) && disk_low(cleaner, &sweep.rule);
	state = clean(cleaner, &sweep);
	if (worker_stopping(cleaner->worker.stop_fd))
		return;
	cleaner_state_set(state, sweep.rule.free_bytes, sweep.rule.min_free_bytes);
	cleaner->hurry = state == CLEANER_DISK_LOW || state == CLEANER_DISK_LOW_EARLY;
	if (outcome->cleaned > 0 || outcome->missing > 0)
		log_event(LOG_LEVEL_INFO, "cache_cleaned",
				  "files=%d not_in_image_center=%d period_seconds=%" PRId64 " state=%s", outcome->cleaned,
				  outcome->missing, sweep.rule.period / CLOCK_SECOND, cleaner_state_name());
	if (outcome->ended)
		sweep_ended(cleaner, &sweep);
	else if (state == CLEANER_DISK_LOW_STUCK)
		health_error(HEALTH_CLEANER, "the disk is low, and nothing in the cache is safe in both centers");
	else if (sweep.asked > 0 || cleaner->was_stuck)
	{
		backoff_reset(&cleaner->backoff);
		health_ok(HEALTH_CLEANER);
	}
	cleaner->was_stuck = state == CLEANER_DISK_LOW_STUCK;
}

/* Drops entries from the ledger that are of no use to anybody any more, by elapsed time as well. */
static void trim_ledger(Cleaner *cleaner)
{
	Ledger *ledger = cleaner->context.ledger;
	int64_t keep = cleaner->context.config->ledger_keep, dropped = 0;

	if (ledger_trim(ledger, clock_now() - keep, ledger_aged(ledger, keep), &dropped) == TMS_OK && dropped > 0)
		log_event(LOG_LEVEL_INFO, "ledger_trimmed", "entries=%" PRId64, dropped);
}

static void run_cleaner(void *argument)
{
	Cleaner *cleaner = argument;
	int stop_fd = cleaner->worker.stop_fd;

	cleaner->batch.stop_fd = stop_fd;
	while (!worker_stopping(stop_fd))
	{
		int64_t now = clock_steady();

		/* A failure is logged by the ledger; without a mark things are cleaned later. */
		(void) !ledger_mark(cleaner->context.ledger, ledger_cleaning_period(cleaner->context.ledger),
							cleaner->context.config->ledger_keep);
		if (now >= cleaner->backoff.retry_at)
			run_sweep(cleaner);
		if (now >= cleaner->trim_at && !worker_stopping(stop_fd))
		{
			trim_ledger(cleaner);
			cleaner->trim_at = now + TRIM_INTERVAL;
		}
		worker_pause(stop_fd, cleaner->hurry ? HURRY_INTERVAL : SWEEP_INTERVAL);
	}
}

static TmsStatus start_cleaner(const ServiceContext *context, void **handle)
{
	Cleaner *cleaner = calloc(1, sizeof(*cleaner));
	TmsStatus status;

	if (cleaner == NULL)
		return TMS_MEMORY;
	cleaner->context = *context;
	status = upload_open(context->config, CLEANER_CONNECTIONS, &cleaner->client);
	if (status == TMS_OK)
	{
		cleaner->batch.context = &cleaner->context;
		cleaner->batch.client = cleaner->client;
		status = worker_start(&cleaner->worker, "cleaner", run_cleaner, cleaner);
	}
	if (status != TMS_OK)
	{
		upload_close(cleaner->client);
		free(cleaner);
		return status;
	}
	*handle = cleaner;
	return TMS_OK;
}

static void stop_cleaner(void *handle)
{
	Cleaner *cleaner = handle;

	worker_stop(&cleaner->worker);
	upload_close(cleaner->client);
	free(cleaner);
}

const Service cleaner_service = {.name = "cleaner", .start = start_cleaner, .stop = stop_cleaner};
