/*
 * The uploader: brings every capture to the image center, for as long as it takes. One thread, `concurrency` uploads
 * at once.
 *
 * An upload is a PUT and then a HEAD that has to find the same size and digest; where the store tells no digest, the
 * object is fetched again (GET) and hashed, unless [image_center] verify = length. Only then the ledger hears of it,
 * with a receipt of how it was verified. What an upload request asked for was in the image center once, and may still be:
 * that is asked first, and only what is missing or damaged there is sent again. Nothing is ever given up: what fails comes again. An entry that fails alone waits
 * alone. When failures come one after the other without a success between them, the image center is taken for
 * failing: from then on one request at a time asks, after growing waits, until one succeeds. Entries whose file is
 * missing or damaged are set aside and told.
 *
 * All state here belongs to the thread; the ledger is the only memory across restarts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "health.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "upload_request.h"
#include "uploader_queue.h"
#include "worker.h"

/* How long the thread waits at most before it looks for new entries. */
#define TICK (CLOCK_SECOND / 4)

/*
 * So many failures of single entries in a row, and it may be no longer the entries. Or it may: then one that fails for
 * itself is passed every ten seconds at worst.
 */
#define FAILURES_IN_A_ROW 3
static const BackoffSchedule doubtful = {CLOCK_SECOND / 2, 10 * CLOCK_SECOND};

/* Somebody has to change something; what is asked for meanwhile costs nobody much, and soon shows that it was done. */
static const BackoffSchedule misconfigured = {5 * CLOCK_SECOND, 60 * CLOCK_SECOND};

/* Of a rate limit, bytes per second: with less than this each, fewer uploads at once arrive sooner. */
#define LEAST_SHARE 65536

/* One upload under way. */
typedef struct Upload
{
	bool used;
	int64_t id;
	int64_t seq;
	int64_t started_at;
	bool existed; /* the store had something of that name before */
	bool asked_first; /* nothing was sent yet: the store is asked whether it still has the object */
	UploadObject object;
} Upload;

typedef struct Uploader
{
	ServiceContext context;
	Worker worker;
	UploadClient *client;
	UploaderQueue *queue;
	Upload *uploads; /* config->upload_concurrency of them, as of the next two */
	Upload **verified; /* which the ledger has not heard of yet */
	LedgerUpload *receipts; /* of these */
	int verified_count;
	int active;

	/* the image center as a whole */
	int failures_in_a_row;
	bool failing;
	int64_t failing_since;
	Backoff backoff; /* counts only while failing */
	bool tells_no_digest; /* seen since start: a HEAD before the GET is of no use */
} Uploader;

/* What an outcome that may be the entry's own fault means for it. UPLOAD_AWAY is not, and has no schedule for it. */
typedef struct OutcomeRule
{
	const char *event; /* in the log */
	const BackoffSchedule *schedule;
	const BackoffSchedule *center; /* of the image center, once it is not the entry's fault */
} OutcomeRule;

static const OutcomeRule outcome_rules[UPLOAD_OUTCOME_COUNT] = {
	[UPLOAD_ABSENT] = {"upload_not_kept", &backoff_refused, &doubtful},
	[UPLOAD_DIFFERENT] = {"upload_not_kept", &backoff_refused, &doubtful},
	[UPLOAD_AWAY] = {NULL, NULL, &backoff_away},
	[UPLOAD_BUSY] = {"upload_failed", &backoff_away, &doubtful},
	[UPLOAD_REFUSED] = {"upload_refused", &backoff_refused, &doubtful},
	[UPLOAD_MISCONFIGURED] = {"upload_refused", &misconfigured, &misconfigured},
};

/* --- the image center as a whole --- */

/* How many uploads may be under way now? */
static int uploads_allowed(const Uploader *uploader, int64_t now)
{
	const Config *config = uploader->context.config;
	int64_t rate;

	if (!uploader->failing)
	{
		rate = rate_schedule_now(&config->rate_limit, clock_now());
		if (rate == 0 || rate / LEAST_SHARE >= config->upload_concurrency)
			return config->upload_concurrency;
		return rate / LEAST_SHARE > 1 ? (int) (rate / LEAST_SHARE) : 1;
	}
	return now >= uploader->backoff.retry_at ? 1 : 0;
}

static void center_worked(Uploader *uploader)
{
	if (uploader->failing)
		log_event(LOG_LEVEL_INFO, "image_center_back", "away_seconds=%" PRId64,
				  (clock_steady() - uploader->failing_since) / CLOCK_SECOND);
	uploader->failing = false;
	uploader->failures_in_a_row = 0;
	backoff_reset(&uploader->backoff);
	health_ok(HEALTH_IMAGE_CENTER);
}

/*
 * Counts a failure. What began before the center was known to fail is no news, and one of few may be the entry's
 * alone.
 */
static void center_failed(Uploader *uploader, const Upload *upload, const UploadResult *result, int64_t now)
{
	const OutcomeRule *rule = &outcome_rules[result->outcome];
	char reason[2 * sizeof(result->reason)];

	health_error(HEALTH_IMAGE_CENTER, "%s", result->reason);
	uploader->failures_in_a_row++;
	if (uploader->failing && upload->started_at < uploader->failing_since)
		return;
	if (!uploader->failing && rule->schedule != NULL && uploader->failures_in_a_row < FAILURES_IN_A_ROW)
		return;
	backoff_fail(&uploader->backoff, rule->center, now);
	backoff_at_least(&uploader->backoff, result->retry_after, now);
	if (!uploader->failing)
		uploader->failing_since = now;
	log_event(result->outcome == UPLOAD_MISCONFIGURED ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
			  result->outcome == UPLOAD_MISCONFIGURED ? "image_center_misconfigured" : "image_center_failing",
			  "reason=%s since_seconds=%" PRId64 " retry_in_ms=%" PRId64,
			  log_quote(result->reason, reason, sizeof(reason)), (now - uploader->failing_since) / CLOCK_SECOND,
			  (uploader->backoff.retry_at - now) / 1000);
	uploader->failing = true;
}

/* --- one upload --- */

static Upload *unused_upload(Uploader *uploader)
{
	for (int i = 0; i < uploader->context.config->upload_concurrency; i++)
		if (!uploader->uploads[i].used)
			return &uploader->uploads[i];
	return NULL;
}

static void upload_end(Uploader *uploader, Upload *upload)
{
	upload->used = false;
	uploader->active--;
}

/*
 * The file is not what the ledger says. Once is not enough: it may have been cleaned since the ledger was read, and
 * the ledger tells so when it is asked for this entry again.
 */
static void file_unusable(Uploader *uploader, int64_t id, const UploadObject *object, const char *reason)
{
	char quoted[200];
	bool again = uploader_queue_failures(uploader->queue, id) == 0;

	log_event(LOG_LEVEL_ERROR, again ? "upload_file_unusable" : "upload_set_aside", "path=%s reason=%s", object->path,
			  log_quote(reason, quoted, sizeof(quoted)));
	health_error(HEALTH_IMAGE_CENTER, "%s: %s", object->path, reason);
	if (again || ledger_set_aside(uploader->context.ledger, id, reason) != TMS_OK)
		uploader_queue_delay(uploader->queue, id, &backoff_away, 0, clock_steady());
	else
		uploader_queue_done(uploader->queue, id);
}

/* How what may be there is looked at. */
static UploadMethod first_question(const Uploader *uploader)
{
	return uploader->tells_no_digest ? UPLOAD_GET : UPLOAD_HEAD;
}

/* Asks on about an upload under way. */
static void ask(Uploader *uploader, UploadMethod method, Upload *upload)
{
	if (upload_start(uploader->client, method, &upload->object, -1, upload) == TMS_OK)
		return;
	uploader_queue_delay(uploader->queue, upload->id, &backoff_away, 0, clock_steady());
	upload_end(uploader, upload);
}

/* Sends the file of an upload under way. */
static void send_file(Uploader *uploader, Upload *upload)
{
	const UploadObject *object = &upload->object;
	const char *unusable = NULL;
	int64_t size = 0;
	int fd = -1;
	TmsStatus status = cache_read(uploader->context.cache, object->path, &fd, &size);

	upload->asked_first = false;
	if (status == TMS_NOT_FOUND)
		unusable = "the file is missing";
	else if (status == TMS_INVALID)
		unusable = "not a regular file";
	else if (status == TMS_OK && size != object->bytes)
	{
		close(fd);
		unusable = "the file has another size than was recorded";
	}
	else if (status == TMS_OK)
		status = upload_start(uploader->client, UPLOAD_PUT, object, fd, upload);
	if (unusable == NULL && status == TMS_OK)
		return;
	upload_end(uploader, upload);
	if (unusable != NULL)
	{
		file_unusable(uploader, upload->id, object, unusable);
		return;
	}
	health_error(HEALTH_IMAGE_CENTER, "%s: %s", object->path, tms_status_name(status));
	uploader_queue_delay(uploader->queue, upload->id, &backoff_away, 0, clock_steady());
}

static void start_upload(Uploader *uploader, const LedgerEntry *entry, int64_t now)
{
	Upload *upload = unused_upload(uploader);

	upload->used = true;
	uploader->active++;
	upload->id = entry->id;
	upload->seq = entry->seq;
	upload->started_at = now;
	upload->object.bytes = entry->bytes;
	memcpy(upload->object.path, entry->path, sizeof(upload->object.path));
	memcpy(upload->object.sha256, entry->sha256, sizeof(upload->object.sha256));
	upload->object.overwrite = uploader_queue_overwrite(uploader->queue, entry->id);
	upload->existed = false;
	/* What may be overwritten was asked for before, and is not what it should be. */
	upload->asked_first = entry->requested && !upload->object.overwrite;
	if (upload->asked_first)
		ask(uploader, first_question(uploader), upload);
	else
		send_file(uploader, upload);
}

/* The image center has it: the ledger hears of it with others that were verified in the same moment. */
static void upload_verified(Uploader *uploader, Upload *upload, const UploadResult *result)
{
	LedgerUpload *receipt = &uploader->receipts[uploader->verified_count];

	center_worked(uploader);
	if (!upload->asked_first)
	{
		metrics_add(METRIC_CAPTURES_UPLOADED, 1);
		metrics_add(METRIC_BYTES_UPLOADED, upload->object.bytes);
		metrics_time(METRIC_UPLOAD, clock_steady() - upload->started_at);
	}
	receipt->id = upload->id;
	receipt->at = clock_now();
	receipt->how = result->method == UPLOAD_GET ? LEDGER_VERIFIED_READ
				   : result->digest_known       ? LEDGER_VERIFIED_TOLD
												: LEDGER_VERIFIED_LENGTH;
	/* The tag stands for the digest, for the cleaner too: only where that was seen. */
	snprintf(receipt->etag, sizeof receipt->etag, "%s", receipt->how == LEDGER_VERIFIED_LENGTH ? "" : result->etag);
	uploader->verified[uploader->verified_count++] = upload;
}

static void tell_ledger(Uploader *uploader)
{
	bool told;

	if (uploader->verified_count == 0)
		return;
	told = ledger_set_uploaded(uploader->context.ledger, uploader->receipts, uploader->verified_count) == TMS_OK;
	for (int i = 0; i < uploader->verified_count; i++)
	{
		Upload *upload = uploader->verified[i];

		if (told)
		{
			log_event(LOG_LEVEL_DEBUG, upload->asked_first ? "upload_confirmed" : "uploaded",
					  "seq=%" PRId64 " path=%s bytes=%" PRId64, upload->seq, upload->object.path, upload->object.bytes);
			uploader_queue_done(uploader->queue, upload->id);
		}
		else
			uploader_queue_delay(uploader->queue, upload->id, &backoff_away, 0, clock_steady());
		upload_end(uploader, upload);
	}
	uploader->verified_count = 0;
}

static void upload_failed(Uploader *uploader, Upload *upload, const UploadResult *result)
{
	const OutcomeRule *rule = &outcome_rules[result->outcome];
	int64_t now = clock_steady();
	char reason[2 * sizeof(result->reason)];

	upload_end(uploader, upload);
	if (result->outcome == UPLOAD_UNREADABLE)
	{
		file_unusable(uploader, upload->id, &upload->object, result->reason);
		return;
	}
	center_failed(uploader, upload, result, now);
	if (rule->schedule == NULL)
	{
		uploader_queue_again(uploader->queue, upload->id, now);
		return;
	}
	log_event(LOG_LEVEL_WARNING, rule->event, "seq=%" PRId64 " path=%s reason=%s retry_in_ms=%" PRId64, upload->seq,
			  upload->object.path, log_quote(result->reason, reason, sizeof(reason)),
			  uploader_queue_delay(uploader->queue, upload->id, rule->schedule, result->retry_after, now) / 1000);
}

/* What the store had before under this name is something else. It stays; the entry is set aside. */
static void upload_collided(Uploader *uploader, Upload *upload, const UploadResult *result)
{
	char reason[sizeof(result->reason) + 40];
	char quoted[2 * sizeof(reason)];

	snprintf(reason, sizeof(reason), "something else has this name (%s)", result->reason);
	log_event(LOG_LEVEL_ERROR, "upload_set_aside", "path=%s reason=%s", upload->object.path,
			  log_quote(reason, quoted, sizeof(quoted)));
	health_error(HEALTH_IMAGE_CENTER, "%s: %s", upload->object.path, reason);
	if (ledger_set_aside(uploader->context.ledger, upload->id, reason) == TMS_OK)
		uploader_queue_done(uploader->queue, upload->id);
	else
		uploader_queue_delay(uploader->queue, upload->id, &backoff_away, 0, clock_steady());
	upload_end(uploader, upload);
}

/* The store has the object, as far as it was asked. */
static void attempt_succeeded(Uploader *uploader, Upload *upload, const UploadResult *result)
{
	bool enough = result->method != UPLOAD_PUT && config_verifies_length(uploader->context.config);

	if (result->digest_known || enough)
		upload_verified(uploader, upload, result);
	else if (result->method == UPLOAD_PUT)
		ask(uploader, first_question(uploader), upload);
	else
	{
		uploader->tells_no_digest = true;
		ask(uploader, UPLOAD_GET, upload);
	}
}

/*
 * The store has not what an upload request asked for; or it does not say, as stores do whose credentials are good for
 * writing alone: the PUT will tell. What it has in its place was damaged there, for the name holds the digest's head.
 */
static void send_again(Uploader *uploader, Upload *upload, const UploadResult *result)
{
	char reason[2 * sizeof(result->reason)];

	if (result->outcome == UPLOAD_DIFFERENT)
	{
		log_event(LOG_LEVEL_WARNING, "upload_repairs", "seq=%" PRId64 " path=%s reason=%s", upload->seq,
				  upload->object.path, log_quote(result->reason, reason, sizeof(reason)));
		uploader_queue_set_overwrite(uploader->queue, upload->id);
		upload->object.overwrite = true;
	}
	send_file(uploader, upload);
}

static void attempt_ended(Uploader *uploader, const UploadResult *result)
{
	Upload *upload = result->owner;

	ledger_witness(uploader->context.ledger, result->store_time);
	if (upload->asked_first && (result->outcome == UPLOAD_ABSENT || result->outcome == UPLOAD_DIFFERENT ||
								result->outcome == UPLOAD_REFUSED || result->outcome == UPLOAD_MISCONFIGURED))
	{
		send_again(uploader, upload, result);
		return;
	}
	switch (result->outcome)
	{
		case UPLOAD_OK:
			attempt_succeeded(uploader, upload, result);
			return;
		case UPLOAD_EXISTS:
			upload->existed = true;
			ask(uploader, UPLOAD_GET, upload);
			return;
		case UPLOAD_UNCONDITIONALLY:
			uploader_queue_set_overwrite(uploader->queue, upload->id);
			uploader_queue_again(uploader->queue, upload->id, clock_steady());
			upload_end(uploader, upload);
			return;
		case UPLOAD_DIFFERENT:
			if (upload->existed)
			{
				upload_collided(uploader, upload, result);
				return;
			}
			/* It is the damaged rest of what was just sent. */
			uploader_queue_set_overwrite(uploader->queue, upload->id);
			break;
		default:
			break;
	}
	upload_failed(uploader, upload, result);
}

/* --- the thread --- */

/*
 * Starts what may be started; true when there may be more of it. Goes round only so often, because entries that
 * cannot be started keep no place taken.
 */
static bool start_uploads(Uploader *uploader)
{
	LedgerEntry entry;

	for (int i = 0; i < uploader->context.config->upload_concurrency; i++)
	{
		int64_t now = clock_steady();

		if (uploader->active >= uploads_allowed(uploader, now) || !uploader_queue_take(uploader->queue, now, &entry))
			return false;
		start_upload(uploader, &entry, now);
	}
	return uploader->active < uploads_allowed(uploader, clock_steady());
}

static void run_uploader(void *argument)
{
	Uploader *uploader = argument;
	int stop_fd = uploader->worker.stop_fd;
	UploadResult result;

	while (!worker_stopping(stop_fd))
	{
		bool more = start_uploads(uploader);

		upload_wait(uploader->client, stop_fd, more ? 0 : TICK);
		while (!worker_stopping(stop_fd) && upload_next(uploader->client, &result))
			attempt_ended(uploader, &result);
		tell_ledger(uploader);
	}
}

static void free_uploader(Uploader *uploader)
{
	upload_close(uploader->client);
	uploader_queue_free(uploader->queue);
	free(uploader->uploads);
	free(uploader->verified);
	free(uploader->receipts);
	free(uploader);
}

static TmsStatus start_uploader(const ServiceContext *context, void **handle)
{
	Uploader *uploader = calloc(1, sizeof(*uploader));
	TmsStatus status = TMS_MEMORY;

	if (uploader == NULL)
		return TMS_MEMORY;
	uploader->context = *context;
	uploader->queue = uploader_queue_new(context->ledger);
	uploader->uploads = calloc((size_t) context->config->upload_concurrency, sizeof(Upload));
	uploader->verified = calloc((size_t) context->config->upload_concurrency, sizeof(Upload *));
	uploader->receipts = calloc((size_t) context->config->upload_concurrency, sizeof(LedgerUpload));
	if (uploader->queue != NULL && uploader->uploads != NULL && uploader->verified != NULL &&
		uploader->receipts != NULL)
		status = upload_open(context->config, context->config->upload_concurrency, &uploader->client);
	if (status == TMS_OK)
		status = worker_start(&uploader->worker, "uploader", run_uploader, uploader);
	if (status != TMS_OK)
	{
		free_uploader(uploader);
		return status;
	}
	*handle = uploader;
	return TMS_OK;
}

static void stop_uploader(void *handle)
{
	Uploader *uploader = handle;

	worker_stop(&uploader->worker);
	free_uploader(uploader);
}

const Service uploader_service = {.name = "uploader", .start = start_uploader, .stop = stop_uploader};
