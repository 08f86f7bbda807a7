/*
 * Images by capture: which source to ask in which order, and what to do when one fails.
 *
 * Life of an image, moved on by the one function named:
 *
 *   WAITING --send_image--> RUNNING --attempt_ended--> SETTLED          delivered
 *      ^                       |
 *      +----attempt_ended------+   this source failed: WAITING for the next one, ahead of all others
 *   WAITING --settle_image--> SETTLED                                   no source is left, or the row names no image
 *
 * Invariants: a WAITING image is in set->waiting, a RUNNING one in set->running and has its attempt in `fetch`, a SETTLED
 * one in set->settled. set->admitted_bytes is the sum of all images' admitted_bytes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "tms_ext/compat.h"
#include "tms_ext/fetch_stats.h"
#include "tms_fdw/device.h"
#include "tms_fdw/fetch.h"
#include "tms_fdw/image_fetch.h"
#include "tms_fdw/poller.h"
#include "tms_fdw/source.h"

#define LOOK_AHEAD 64 /* images behind one that waits for its front end that are looked at for others to send */

typedef struct Image
{
	TmsImage public; /* first: every TmsImage is an Image */
	dlist_node node;
	TmsImageRequest request;
	TmsOrigin sources[TMS_ORIGIN_COUNT]; /* in the order in which to ask */
	int n_sources;
	int next_source; /* the one asked now, or to be asked next */
	bool counted; /* against tms.max_images */
	bool asked_again; /* the same source once more, after nobody had driven the engine */
	bool failed_over;
	int64 admitted_bytes; /* of the budget; 0: not admitted yet */
	StringInfoData errors;
	TmsFetch *fetch;
} Image;

struct TmsImageSet
{
	MemoryContext context;
	MemoryContext scratch; /* texts of requests, until they are sent */
	const TmsServerOptions *options;
	TmsFetchCounters *counters;
	TmsDeviceCache *devices;
	TmsFetchGroup *fetches;
	dlist_head waiting; /* in the order in which they will be wanted */
	dlist_head running;
	dlist_head settled;
	int n_running;
	int64 admitted_bytes;
};

/* --- states --- */

static void note_error(TmsImageSet *set, Image *image, const char *source, const char *reason)
{
	MemoryContext previous = MemoryContextSwitchTo(set->context);

	if (image->errors.data == NULL)
		initStringInfo(&image->errors);
	appendStringInfo(&image->errors, "%s%s%s%s", image->errors.len > 0 ? "; " : "", source ? source : "",
					 source ? ": " : "", reason);
	MemoryContextSwitchTo(previous);
}

static void set_admitted_bytes(TmsImageSet *set, Image *image, int64 bytes)
{
	set->admitted_bytes += bytes - image->admitted_bytes;
	image->admitted_bytes = bytes;
}

/* The image is final: with these bytes from this source, or, with NULL, unavailable. */
static void settle_image(TmsImageSet *set, Image *image, bytea *bytes, const char *source)
{
	dlist_delete(&image->node);
	dlist_push_tail(&set->settled, &image->node);
	image->public.state = TMS_IMAGE_SETTLED;
	image->public.image = bytes;
	image->public.source = source;
	image->public.error = image->errors.data;
	set_admitted_bytes(set, image, bytes != NULL ? VARSIZE(bytes) : 0);
	if (bytes != NULL)
	{
		set->counters->images++;
		set->counters->bytes += VARSIZE(bytes) - VARHDRSZ;
	}
	else
		set->counters->unavailable++;
}

/*
 * What every attempt came to passes here, and only here: `source` of this image either delivered or failed for a reason.
 */
static void record_outcome(TmsImageSet *set, const Image *image, TmsOrigin source)
{
	const TmsFetch *fetch = image->fetch;
	TmsRequestResult result = fetch->outcome == TMS_FETCH_OK             ? TMS_REQUEST_DELIVERED
							  : fetch->outcome == TMS_FETCH_WRONG_DIGEST ? TMS_REQUEST_WRONG_DIGEST
																		 : TMS_REQUEST_FAILED;

	if (result == TMS_REQUEST_WRONG_DIGEST)
		set->counters->digest_failures++;
	tms_fetch_stats_ended(source, result, fetch->bytes, fetch->elapsed);
}

/* May the source that failed have done so only because nobody read its answer for a while? Then it is asked once more. */
static bool deserves_another_try(const Image *image)
{
	return image->fetch->stalled && !image->asked_again &&
		   (image->fetch->outcome == TMS_FETCH_BROKEN || image->fetch->outcome == TMS_FETCH_TIMED_OUT ||
			image->fetch->outcome == TMS_FETCH_WRONG_SIZE);
}

static void attempt_ended(TmsImageSet *set, Image *image)
{
	TmsFetch *fetch = image->fetch;
	TmsOrigin source = image->sources[image->next_source];

	set->n_running--;
	if (deserves_another_try(image))
		image->asked_again = true;
	else
	{
		record_outcome(set, image, source);
		if (fetch->outcome == TMS_FETCH_OK)
		{
			settle_image(set, image, fetch->body, tms_origin_name(source));
			fetch->body = NULL;
		}
		else
		{
			note_error(set, image, tms_origin_name(source), fetch->reason);
			image->next_source++;
		}
	}
	image->fetch = NULL;
	tms_fetch_end(fetch);
	if (image->public.state == TMS_IMAGE_SETTLED)
		return;
	dlist_delete(&image->node);
	dlist_push_head(&set->waiting, &image->node);
	image->public.state = TMS_IMAGE_WAITING;
}

/* --- sending --- */

static bool front_end_is_busy(TmsImageSet *set, int32 device_id)
{
	dlist_iter iter;
	int n = 0;

	dlist_foreach (iter, &set->running)
	{
		const Image *other = dlist_container(Image, node, iter.cur);

		if (other->request.device_id == device_id && other->sources[other->next_source] == TMS_ORIGIN_FRONT_END)
			n++;
	}
	return n >= set->options->per_device_concurrency;
}

/* Bytes of the budget that an image takes while it is fetched. */
static int64 bytes_to_admit(const TmsImageSet *set, const Image *image)
{
	return VARHDRSZ + (image->request.image_bytes >= 0 ? image->request.image_bytes : set->options->max_image_bytes);
}

/* Sends the request for an image to its next source. */
static void send_image(TmsImageSet *set, Image *image, TmsFetchRequest *request)
{
	TmsOrigin source = image->sources[image->next_source];

	request->ca_file = set->options->ca_file;
	request->expected_bytes = image->request.image_bytes;
	request->max_bytes = set->options->max_image_bytes;
	request->expected_sha256 = image->request.sha256;
	request->connect_timeout = set->options->connect_timeout;
	request->first_byte_timeout = set->options->first_byte_timeout;
	request->timeout = set->options->timeout;
	if (image->admitted_bytes == 0)
		set_admitted_bytes(set, image, bytes_to_admit(set, image));
	image->fetch = tms_fetch_start(set->fetches, request, image);
	dlist_delete(&image->node);
	dlist_push_tail(&set->running, &image->node);
	image->public.state = TMS_IMAGE_RUNNING;
	set->n_running++;
	if (source == TMS_ORIGIN_IMAGE_CENTER)
		set->counters->requests_image_center++;
	else
		set->counters->requests_front_end++;
	if (image->next_source > 0 && !image->failed_over)
	{
		image->failed_over = true;
		set->counters->failovers++;
		tms_fetch_stats_failed_over(image->sources[image->next_source - 1]);
	}
	tms_fetch_stats_sent(source);
}

/* Sends a waiting image, or settles it when no source is left; false when its front end is busy. */
static bool try_to_send(TmsImageSet *set, Image *image)
{
	while (image->next_source < image->n_sources)
	{
		TmsOrigin source = image->sources[image->next_source];
		TmsFetchRequest request = {0};
		const char *why;

		if (source == TMS_ORIGIN_FRONT_END && front_end_is_busy(set, image->request.device_id))
			return false;
		why = tms_source_request(source, set->options, set->devices, image->request.device_id, image->request.path,
								 &request);
		if (why == NULL)
		{
			send_image(set, image, &request);
			return true;
		}
		note_error(set, image, tms_origin_name(source), why);
		image->next_source++;
	}
	settle_image(set, image, NULL, NULL);
	return true;
}

/* May this image be fetched now, as far as memory goes? (The wanted one always may: only its delivery will make room.) */
static bool fits_budget(const TmsImageSet *set, const Image *image)
{
	return image->admitted_bytes > 0 || set->admitted_bytes == 0 ||
		   set->admitted_bytes + bytes_to_admit(set, image) <= set->options->prefetch_memory;
}

/*
 * Sends as many waiting images as concurrency and memory allow: the wanted one first (NULL: none is), then the others in
 * their order.
 */
static void send_waiting(TmsImageSet *set, Image *wanted)
{
	MemoryContext previous = MemoryContextSwitchTo(set->scratch);
	dlist_mutable_iter iter;
	int passed_over = 0;

	if (wanted != NULL && wanted->public.state == TMS_IMAGE_WAITING && set->n_running < set->options->concurrency)
		try_to_send(set, wanted);
	dlist_foreach_modify (iter, &set->waiting)
	{
		Image *image = dlist_container(Image, node, iter.cur);

		if (set->n_running >= set->options->concurrency || passed_over > LOOK_AHEAD || !fits_budget(set, image))
			break;
		if (!try_to_send(set, image))
			passed_over++;
	}
	MemoryContextSwitchTo(previous);
	MemoryContextReset(set->scratch);
}

/* --- what others call --- */

/*
 * Counts an image against tms.max_images when it is first wanted: what was looked ahead for and is never wanted does not
 * count. A statement may have any number of scans and calls.
 */
static void count_image(Image *image)
{
	static TimestampTz statement = 0;
	static int64 n_images = 0;
	TimestampTz this_statement = GetCurrentStatementStartTimestamp();

	if (image->counted)
		return;
	image->counted = true;
	if (statement != this_statement)
	{
		statement = this_statement;
		n_images = 0;
	}
	if (++n_images > tms_max_images)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("statement asks for more than %d images", tms_max_images),
						errhint("Select fewer rows, leave out the image columns, or raise tms.max_images.")));
}

TmsImageSet *tms_image_set_create(MemoryContext parent, const TmsServerOptions *options, TmsFetchCounters *counters)
{
	MemoryContext context = AllocSetContextCreate(parent, "tms images", ALLOCSET_DEFAULT_SIZES);
	TmsImageSet *set = MemoryContextAllocZero(context, sizeof(TmsImageSet));

	set->context = context;
	set->scratch = AllocSetContextCreate(context, "tms image requests", ALLOCSET_SMALL_SIZES);
	set->options = options;
	set->counters = counters;
	set->devices = tms_device_cache_create(context);
	set->fetches = tms_fetch_group_create(context);
	dlist_init(&set->waiting);
	dlist_init(&set->running);
	dlist_init(&set->settled);
	return set;
}

/* Why an image cannot be asked for at all, in static or scratch memory; NULL when it can. */
static const char *refusal(const TmsImageSet *set, const TmsImageRequest *request)
{
	if (request->path == NULL)
		return "the capture has no storage path";
	if (!request->has_sha256)
		return "the capture has no digest";
	if (request->image_bytes > set->options->max_image_bytes)
		return "the capture is larger than max_image_bytes";
	return NULL;
}

TmsImage *tms_image_submit(TmsImageSet *set, const TmsImageRequest *request)
{
	Image *image = MemoryContextAllocZero(set->context, sizeof(Image));
	const char *why = refusal(set, request);

	image->request = *request;
	if (request->path != NULL)
		image->request.path = MemoryContextStrdup(set->context, request->path);
	dlist_push_tail(&set->waiting, &image->node);
	if (why == NULL)
		image->n_sources = tms_source_order(set->options, set->devices, request->capture_id, image->sources);
	else
	{
		note_error(set, image, NULL, why);
		settle_image(set, image, NULL, NULL);
	}
	return &image->public;
}

static void take_ended(TmsImageSet *set)
{
	TmsFetch *fetch;

	while ((fetch = tms_fetch_next(set->fetches)) != NULL)
		attempt_ended(set, fetch->owner);
}

void tms_image_go_on(TmsImageSet *set)
{
	tms_fetch_go_on();
	take_ended(set);
	send_waiting(set, NULL);
}

void tms_image_wait(TmsImageSet *set, TmsImage *public)
{
	Image *image = (Image *) public;

	count_image(image);
	send_waiting(set, image);
	while (public->state != TMS_IMAGE_SETTLED)
	{
		int64 begin = tms_poller_clock();

		tms_fetch_wait(set->fetches);
		set->counters->wait_us += tms_poller_clock() - begin;
		take_ended(set);
		send_waiting(set, image);
	}
	tms_image_go_on(set);
	if (public->image == NULL && set->options->on_unavailable == TMS_UNAVAILABLE_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("image of capture " INT64_FORMAT " is unavailable", image->request.capture_id),
				 errdetail("%s", public->error),
				 errhint("Set tms.on_unavailable to null to get NULL instead, with the reason in image_error.")));
}

void tms_image_release(TmsImageSet *set, TmsImage *public)
{
	Image *image = (Image *) public;

	if (image->fetch != NULL)
	{
		tms_fetch_end(image->fetch);
		set->n_running--;
	}
	set_admitted_bytes(set, image, 0);
	dlist_delete(&image->node);
	if (public->image != NULL)
		pfree(public->image);
	if (image->errors.data != NULL)
		pfree(image->errors.data);
	if (image->request.path != NULL)
		pfree(unconstify(char *, image->request.path));
	pfree(image);
}

void tms_image_set_destroy(TmsImageSet *set)
{
	MemoryContextDelete(set->context);
}
