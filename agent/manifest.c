/*
 * Manifests: writes the records of the captures of every hour to the image center, so that the path center can be made again
 * from it. One thread.
 *
 * What is left to write is the ledger's (ledger_manifest.c); all state here belongs to the thread. A manifest names captures
 * that are verified in the image center, and is itself verified there before the ledger forgets that they are to be written.
 * What is written is never changed: captures that come later go to a further part, whose name differs because its bytes do.
 * A crash in between writes the same bytes again, or a part that names some a second time, which does no harm.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backoff.h"
#include "clock.h"
#include "health.h"
#include "log.h"
#include "manifest_text.h"
#include "service.h"
#include "upload_request.h"
#include "worker.h"

#define HOUR  (3600 * CLOCK_SECOND)
#define GRACE (120 * CLOCK_SECOND) /* after the end of an hour: for what is on its way through intake */
#define QUIET (5 * CLOCK_SECOND) /* so long no further one came: late captures mostly come several at a time */
#define TICK  (2 * CLOCK_SECOND) /* between looks at the ledger */

/* Of one part. */
#define LINES_MAX 8000
#define BYTES_MAX (4 * 1024 * 1024)
#define READ_MAX  100 /* entries read at once */

typedef struct Manifest
{
	ServiceContext context;
	Worker worker;
	UploadClient *client;
	Backoff backoff;
	bool walked; /* captures from before there were manifests are all due */

	/* the part under way */
	LedgerManifest place;
	char *text; /* BYTES_MAX */
	size_t len;
	int64_t ids[LINES_MAX]; /* of the captures in it */
	int count;
	int64_t first_seq;
	LedgerEntry entries[READ_MAX];
} Manifest;

/* --- one part --- */

/*
 * Is it time for these? An hour that is over waits for its captures that are on their way, but for an hour at most. One of a
 * clock that is ahead of ours never ends.
 */
static bool is_due(const LedgerManifest *place)
{
	int64_t now = clock_now();
	int64_t start = place->hour * HOUR;
	bool patient = now < place->first_at + HOUR;

	if (place->count >= LINES_MAX)
		return true;
	if (now >= start + HOUR + GRACE)
		return !patient || (!place->waits && now >= place->last_at + QUIET);
	return start > now && !patient;
}

/* Adds a line; false: no room. An entry that cannot be a line is in no manifest. */
static bool add_entry(Manifest *manifest, const LedgerEntry *entry)
{
	char line[MANIFEST_LINE_SIZE];
	size_t len;

	if (manifest->count == LINES_MAX)
		return false;
	if (manifest_line(entry, line, &len) != TMS_OK)
	{
		log_event(LOG_LEVEL_ERROR, "manifest_record", "path=%s error=\"the record cannot be written as a line\"",
				  entry->path);
		len = 0;
	}
	if (manifest->len + len > BYTES_MAX)
		return false;
	memcpy(manifest->text + manifest->len, line, len);
	manifest->len += len;
	if (manifest->first_seq == 0 || entry->seq < manifest->first_seq)
		manifest->first_seq = entry->seq;
	manifest->ids[manifest->count++] = entry->id;
	return true;
}

/* Fills in the text of the next part of the place. */
static TmsStatus make_part(Manifest *manifest)
{
	int64_t after = 0;
	int count;

	manifest->len = 0;
	manifest->count = 0;
	manifest->first_seq = 0;
	do
	{
		TmsStatus status = ledger_manifest_read(manifest->context.ledger, &manifest->place, after, manifest->entries,
												READ_MAX, &count);

		if (status != TMS_OK)
			return status;
		for (int i = 0; i < count; i++)
		{
			if (!add_entry(manifest, &manifest->entries[i]))
				return TMS_OK;
			after = manifest->entries[i].id;
		}
	} while (count > 0 && !worker_stopping(manifest->worker.stop_fd));
	return TMS_OK;
}

static TmsStatus describe_part(const Manifest *manifest, UploadObject *object)
{
	memset(object, 0, sizeof(*object));
	object->bytes = (int64_t) manifest->len;
	object->type = "application/x-ndjson";
	/* Its name holds its digest: what is in its place can only be the damaged rest of it. */
	object->overwrite = true;
	if (!tms_sha256(manifest->text, manifest->len, object->sha256))
		return TMS_MEMORY;
	return manifest_path(manifest->place.hour, &manifest->place.ledger, manifest->first_seq, object->sha256,
						 object->path);
}

/* A descriptor with the text, for a PUT to read. */
static int open_text(const Manifest *manifest)
{
	int fd = memfd_create("manifest", MFD_CLOEXEC);
	size_t written = 0;

	while (fd >= 0 && written < manifest->len)
	{
		ssize_t got = write(fd, manifest->text + written, manifest->len - written);

		if (got <= 0)
		{
			close(fd);
			return -1;
		}
		written += (size_t) got;
	}
	return fd;
}

/* --- to the image center --- */

/* One request to its end; TMS_AGAIN: the thread is to stop. */
static TmsStatus ask(Manifest *manifest, UploadMethod method, const UploadObject *object, UploadResult *result)
{
	int stop_fd = manifest->worker.stop_fd;
	int fd = method == UPLOAD_PUT ? open_text(manifest) : -1;
	TmsStatus status;

	if (method == UPLOAD_PUT && fd < 0)
		return TMS_MEMORY;
	status = upload_start(manifest->client, method, object, fd, manifest);
	while (status == TMS_OK && !upload_next(manifest->client, result))
	{
		if (worker_stopping(stop_fd))
			status = TMS_AGAIN;
		else
			upload_wait(manifest->client, stop_fd, TICK);
	}
	if (status != TMS_OK)
		upload_cut_off(manifest->client);
	else
		ledger_witness(manifest->context.ledger, result->store_time);
	return status;
}

/* PUTs the object and makes sure that it is there: by what the store tells of it, or else by its bytes. */
static TmsStatus put(Manifest *manifest, const UploadObject *object, UploadResult *result)
{
	bool by_length = config_verifies_length(manifest->context.config);
	TmsStatus status = ask(manifest, UPLOAD_PUT, object, result);

	if (status == TMS_OK && result->outcome == UPLOAD_OK && !result->digest_known)
		status = ask(manifest, UPLOAD_HEAD, object, result);
	if (status == TMS_OK && result->outcome == UPLOAD_OK && !result->digest_known && !by_length)
		status = ask(manifest, UPLOAD_GET, object, result);
	return status;
}

static void put_failed(Manifest *manifest, const UploadObject *object, const UploadResult *result)
{
	bool passes = result->outcome == UPLOAD_AWAY || result->outcome == UPLOAD_BUSY;
	char reason[2 * sizeof(result->reason)];
	int64_t now = clock_steady();

	backoff_fail(&manifest->backoff, passes ? &backoff_away : &backoff_refused, now);
	backoff_at_least(&manifest->backoff, result->retry_after, now);
	health_error(HEALTH_IMAGE_CENTER, "%s: %s", object->path, result->reason);
	log_event(LOG_LEVEL_WARNING, "manifest_failed", "path=%s reason=%s retry_in_ms=%" PRId64, object->path,
			  log_quote(result->reason, reason, sizeof(reason)), (manifest->backoff.retry_at - now) / 1000);
}

/* Writes one part of the place; false: not now. */
static bool write_part(Manifest *manifest)
{
	UploadObject object;
	UploadResult result = {.outcome = UPLOAD_OK};
	TmsStatus status = make_part(manifest);

	if (status == TMS_OK && manifest->count == 0)
		return true; /* gone meanwhile */
	if (status == TMS_OK && manifest->len > 0)
		status = describe_part(manifest, &object);
	if (status == TMS_OK && manifest->len > 0)
		status = put(manifest, &object, &result);
	if (status == TMS_OK && result.outcome != UPLOAD_OK)
	{
		put_failed(manifest, &object, &result);
		return false;
	}
	if (status == TMS_OK)
		status = ledger_manifest_written(manifest->context.ledger, &manifest->place, manifest->ids, manifest->count);
	if (status != TMS_OK)
	{
		backoff_fail(&manifest->backoff, &backoff_away, clock_steady());
		return false;
	}
	backoff_reset(&manifest->backoff);
	if (manifest->len > 0)
		log_event(LOG_LEVEL_INFO, "manifest_written", "path=%s captures=%d bytes=%zu", object.path, manifest->count,
				  manifest->len);
	return true;
}

/* --- the thread --- */

/* Writes all that is due now. */
static void run_round(Manifest *manifest)
{
	memset(&manifest->place, 0, sizeof(manifest->place));
	manifest->place.hour = INT64_MIN;
	while (!worker_stopping(manifest->worker.stop_fd) &&
		   ledger_manifest_next(manifest->context.ledger, &manifest->place) == TMS_OK)
	{
		if (!is_due(&manifest->place))
			continue;
		if (!write_part(manifest))
			return;
		/* There may be more of it than a part holds. */
		if (manifest->count > 0)
			manifest->place.ledger_no--;
	}
}

static void run_manifest(void *argument)
{
	Manifest *manifest = argument;
	int stop_fd = manifest->worker.stop_fd;

	while (!worker_stopping(stop_fd))
	{
		bool more = !manifest->walked;

		if (more && ledger_manifest_walk(manifest->context.ledger, &more) == TMS_OK)
			manifest->walked = !more;
		if (clock_steady() >= manifest->backoff.retry_at)
			run_round(manifest);
		worker_pause(stop_fd, more ? TICK / 20 : TICK);
	}
}

static void free_manifest(Manifest *manifest)
{
	upload_close(manifest->client);
	free(manifest->text);
	free(manifest);
}

static TmsStatus start_manifest(const ServiceContext *context, void **handle)
{
	Manifest *manifest = calloc(1, sizeof(*manifest));
	TmsStatus status = TMS_MEMORY;

	if (manifest == NULL)
		return TMS_MEMORY;
	manifest->context = *context;
	manifest->text = malloc(BYTES_MAX);
	if (manifest->text != NULL)
		status = upload_open(context->config, 1, &manifest->client);
	if (status == TMS_OK)
		status = worker_start(&manifest->worker, "manifest", run_manifest, manifest);
	if (status != TMS_OK)
	{
		free_manifest(manifest);
		return status;
	}
	*handle = manifest;
	return TMS_OK;
}

static void stop_manifest(void *handle)
{
	Manifest *manifest = handle;

	worker_stop(&manifest->worker);
	free_manifest(manifest);
}

const Service manifest_service = {.name = "manifest", .start = start_manifest, .stop = stop_manifest};
