/*
 * The cleaner: takes captures out of the cache once they are safe elsewhere and old enough (DESIGN 8.4). One thread.
 *
 * A file is unlinked only if, all of it at that moment: the image center answers a HEAD with its size (and digest,
 * where the store tells one); the path center has confirmed its row; it was captured, and taken in, longer ago than
 * the cleaning period by the agent's clock, and by the image center's clock where it tells the time. No answer is
 * never a permission: a store that is away ends the sweep. A store that does not have the object makes it go there
 * again. A sweep goes only so far, so that a mistake in one of the rules' inputs has a rate, not an instant.
 *
 * Before the unlink the ledger notes that it is about to happen, after it that it has: a crash in between leaves a
 * file that is gone, which the ledger knows to be right.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "health.h"
#include "log.h"
#include "service.h"
#include "upload_request.h"
#include "worker.h"

#define SWEEP_INTERVAL (2 * CLOCK_SECOND)
#define SWEEP_FILES    200 /* at most that many in a sweep: 100 a second */
#define READ_COUNT     16

/* So many objects in a row that the store cannot tell about, and it is the store. */
#define FAILURES_IN_A_ROW 3

/* A store's clock that is further behind is told about; what is less just makes cleaning a little later. */
#define CLOCK_TOLERANCE (300 * CLOCK_SECOND)

#define TRIM_INTERVAL (3600 * CLOCK_SECOND)

typedef struct Cleaner
{
	ServiceContext context;
	Worker worker;
	UploadClient *client;
	Backoff backoff; /* the image center as the cleaner sees it */
	int64_t trim_at; /* by the steady clock */
	int64_t
		after_id; /* where the last sweep ended; the next one goes on there, so that no entry keeps it from others */
	LedgerEntry entries[READ_COUNT];
} Cleaner;

/* One sweep. */
typedef struct Sweep
{
	int64_t period;
	int64_t before; /* captures from before this time are old enough */
	int looked_at;
	int cleaned;
	int missing; /* not in the image center */
	int failures_in_a_row;
	bool ended; /* early */
} Sweep;

/* --- one file --- */

/* Is the entry old enough by the image center's clock too? Without that clock the agent's is all there is. */
static bool old_enough(const Sweep *sweep, const LedgerEntry *entry, int64_t store_time)
{
	int64_t youngest = entry->taken_at > entry->record.captured_at ? entry->taken_at : entry->record.captured_at;

	return store_time == 0 || youngest < store_time - sweep->period;
}

/*
 * Journals, unlinks, journals. The ledger asks once more, right then, whether the entry is uploaded and confirmed. A
 * failure is told where it happens and leaves the file for a later sweep.
 */
static bool remove_file(Cleaner *cleaner, const LedgerEntry *entry)
{
	return ledger_cleaning(cleaner->context.ledger, entry->id) == TMS_OK &&
		   cache_remove(cleaner->context.cache, entry->path) == TMS_OK &&
		   ledger_cleaned(cleaner->context.ledger, entry->id) == TMS_OK;
}

static void end_sweep(Cleaner *cleaner, Sweep *sweep, const char *reason)
{
	char quoted[400];
	int64_t now = clock_steady();

	sweep->ended = true;
	backoff_fail(&cleaner->backoff, &backoff_away, now);
	health_error(HEALTH_CLEANER, "%s", reason);
	log_event(LOG_LEVEL_WARNING, "cleaner_waits", "reason=%s retry_in_ms=%" PRId64,
			  log_quote(reason, quoted, sizeof(quoted)), (cleaner->backoff.retry_at - now) / 1000);
}

/* The image center has it. */
static void clean_safe(Cleaner *cleaner, Sweep *sweep, const LedgerEntry *entry, const UploadResult *result)
{
	sweep->failures_in_a_row = 0;
	if (!old_enough(sweep, entry, result->store_time))
	{
		if (clock_now() - result->store_time > CLOCK_TOLERANCE)
			end_sweep(cleaner, sweep, "the image center's clock is behind the agent's: nothing is cleaned early");
		return;
	}
	if (ledger_cleaning_period(cleaner->context.ledger) != sweep->period)
	{
		sweep->ended = true; /* the next one begins with the new period */
		return;
	}
	if (!remove_file(cleaner, entry))
		return;
	sweep->cleaned++;
	log_event(LOG_LEVEL_DEBUG, "cleaned", "seq=%" PRId64 " path=%s taken_at=%" PRId64 " period_seconds=%" PRId64,
			  entry->seq, entry->path, entry->taken_at / CLOCK_SECOND, sweep->period / CLOCK_SECOND);
}

/* The image center does not have it, or has something else: it goes there again. */
static void upload_again(Cleaner *cleaner, Sweep *sweep, const LedgerEntry *entry, const UploadResult *result)
{
	char reason[2 * sizeof(result->reason)];

	sweep->failures_in_a_row = 0;
	sweep->missing++;
	log_event(LOG_LEVEL_WARNING, "not_in_image_center", "seq=%" PRId64 " path=%s reason=%s", entry->seq, entry->path,
			  log_quote(result->reason, reason, sizeof(reason)));
	if (ledger_set_uploaded(cleaner->context.ledger, entry->id, 0) != TMS_OK)
		end_sweep(cleaner, sweep, "the ledger could not be written");
}

/* One HEAD from start to end. */
static TmsStatus ask(Cleaner *cleaner, const UploadObject *object, UploadResult *result)
{
	int stop_fd = cleaner->worker.stop_fd;
	TmsStatus status = upload_start(cleaner->client, UPLOAD_HEAD, object, -1, NULL);

	while (status == TMS_OK && !upload_next(cleaner->client, result))
	{
		upload_wait(cleaner->client, stop_fd, CLOCK_SECOND);
		if (worker_stopping(stop_fd))
		{
			upload_cut_off(cleaner->client);
			status = TMS_STOPPED;
		}
	}
	return status;
}

static void clean_entry(Cleaner *cleaner, Sweep *sweep, const LedgerEntry *entry)
{
	UploadObject object = {.bytes = entry->bytes};
	UploadResult result;

	memcpy(object.path, entry->path, sizeof(object.path));
	memcpy(object.sha256, entry->sha256, sizeof(object.sha256));
	sweep->looked_at++;
	if (ask(cleaner, &object, &result) != TMS_OK)
		sweep->ended = true;
	else if (result.outcome == UPLOAD_OK)
		clean_safe(cleaner, sweep, entry, &result);
	else if (result.outcome == UPLOAD_ABSENT || result.outcome == UPLOAD_DIFFERENT)
		upload_again(cleaner, sweep, entry, &result);
	else if (result.outcome == UPLOAD_AWAY || ++sweep->failures_in_a_row >= FAILURES_IN_A_ROW)
		end_sweep(cleaner, sweep, result.reason);
}

/* --- a sweep --- */

static void run_sweep(Cleaner *cleaner)
{
	Ledger *ledger = cleaner->context.ledger;
	Sweep sweep = {.period = ledger_cleaning_period(ledger)};
	int count = READ_COUNT;

	if (sweep.period <= 0)
		return;
	sweep.before = clock_now() - sweep.period;
	while (!sweep.ended && count == READ_COUNT && sweep.looked_at < SWEEP_FILES)
	{
		if (ledger_next_cleanable(ledger, sweep.before, cleaner->after_id, cleaner->entries, READ_COUNT, &count) !=
			TMS_OK)
			return;
		for (int i = 0; i < count && !sweep.ended; i++)
		{
			clean_entry(cleaner, &sweep, &cleaner->entries[i]);
			cleaner->after_id = cleaner->entries[i].id;
		}
	}
	if (count < READ_COUNT && !sweep.ended)
		cleaner->after_id = 0;
	if (sweep.cleaned > 0 || sweep.missing > 0)
		log_event(LOG_LEVEL_INFO, "cache_cleaned", "files=%d not_in_image_center=%d period_seconds=%" PRId64,
				  sweep.cleaned, sweep.missing, sweep.period / CLOCK_SECOND);
	if (sweep.ended || sweep.looked_at == 0)
		return;
	backoff_reset(&cleaner->backoff);
	health_ok(HEALTH_CLEANER);
}

/* Drops entries from the ledger that are of no use to anybody any more. */
static void trim_ledger(Cleaner *cleaner)
{
	int64_t dropped = 0;

	if (ledger_trim(cleaner->context.ledger, clock_now() - cleaner->context.config->ledger_keep, &dropped) == TMS_OK &&
		dropped > 0)
		log_event(LOG_LEVEL_INFO, "ledger_trimmed", "entries=%" PRId64, dropped);
}

static void run_cleaner(void *argument)
{
	Cleaner *cleaner = argument;
	int stop_fd = cleaner->worker.stop_fd;

	while (!worker_stopping(stop_fd))
	{
		int64_t now = clock_steady();

		if (now >= cleaner->backoff.retry_at)
			run_sweep(cleaner);
		if (now >= cleaner->trim_at && !worker_stopping(stop_fd))
		{
			trim_ledger(cleaner);
			cleaner->trim_at = now + TRIM_INTERVAL;
		}
		worker_pause(stop_fd, SWEEP_INTERVAL);
	}
}

static TmsStatus start_cleaner(const ServiceContext *context, void **handle)
{
	Cleaner *cleaner = calloc(1, sizeof(*cleaner));
	TmsStatus status;

	if (cleaner == NULL)
		return TMS_MEMORY;
	cleaner->context = *context;
	status = upload_open(context->config, 1, &cleaner->client);
	if (status == TMS_OK)
		status = worker_start(&cleaner->worker, "cleaner", run_cleaner, cleaner);
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
