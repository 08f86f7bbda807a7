/*
 * Images by capture: which source to ask in which order, and what to do when one fails.
 *
 * Life of an image, moved on by the one function named:
 *
 *   WAITING --note_sent--> RUNNING --attempt_ended--> SETTLED          delivered
 *      ^                      |
 *      +----attempt_ended-----+   this source failed: WAITING for the next one, ahead of all others
 *   WAITING --settle_image--> SETTLED                                  no source is left, or the row names no image
 *
 * A RUNNING image has one attempt or, when the first source takes longer than hedge_after, two; the first to deliver ends the
 * other. It counts once against concurrency, so a stalled source keeps no hedge from being sent and each source sees no more than
 * `concurrency` requests; against memory it counts twice.
 *
 * Invariants: a WAITING image is in set->waiting and has no attempt, a RUNNING one in set->running, a SETTLED one in
 * set->settled without attempts. set->admitted_bytes is the sum of all images' admitted_bytes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "tms_ext/compat.h"
#include "tms_ext/digest_log.h"
#include "tms_ext/fetch_stats.h"
#include "tms_fdw/attempt.h"
#include "tms_fdw/device.h"
#include "tms_fdw/fetch.h"
#include "tms_fdw/image_fetch.h"
#include "tms_fdw/poller.h"
#include "tms_fdw/source.h"

#define LOOK_AHEAD 64 /* images behind one that waits for its front end that are looked at for others to send */
#define LOOK_AGAIN INT64CONST(20000) /* microseconds from one look to the next for what nobody tells us of */
#define NEVER      INT64CONST(-1)

typedef struct Image
{
	TmsImage public; /* first: every TmsImage is an Image */
	dlist_node node;
	TmsImageRequest request;
	TmsOrigin sources[TMS_ORIGIN_COUNT + 1]; /* in the order in which to ask; with room to ask one again */
	int n_sources;
	int next_source; /* to be asked next */
	bool counted; /* against tms.max_images */
	bool asked_again; /* the same source once more, after nobody had driven the engine */
	bool failed_over;
	bool hedged; /* or it is known that this cannot be */
	int64 admitted_bytes; /* of the budget; 0: not admitted yet */
	StringInfoData errors;
	TmsAttempt *attempts[TMS_ORIGIN_COUNT]; /* under way, by source */
	int n_attempts;
} Image;

struct TmsImageSet
{
	MemoryContext context;
	MemoryContext scratch; /* texts of requests, until they are sent */
	const TmsServerOptions *options;
	TmsFetchCounters *counters;
	TmsDeviceCache *devices;
	TmsAttemptGroup *attempts;
	dlist_head waiting; /* in the order in which they will be wanted */
	dlist_head running;
	dlist_head settled;
	int n_running;
	int n_ready; /* settled and not wanted yet */
	int64 admitted_bytes;
	bool busy; /* the last look found an image that waits for others, who do not tell us when they leave */
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

/* Bytes of the budget that one attempt at an image takes. */
static int64 bytes_to_admit(const TmsImageSet *set, const Image *image)
{
	return VARHDRSZ + (image->request.image_bytes >= 0 ? image->request.image_bytes : set->options->max_image_bytes);
}

/* The image has another attempt under way, or one less. */
static void count_attempt(TmsImageSet *set, Image *image, int by)
{
	image->n_attempts += by;
	set_admitted_bytes(set, image, bytes_to_admit(set, image) * Max(image->n_attempts, 1));
}

/* Ends what is under way for an image; `beaten`: because another source delivered. */
static void end_attempts(TmsImageSet *set, Image *image, bool beaten)
{
	int source;

	for (source = 0; source < TMS_ORIGIN_COUNT; source++)
	{
		if (image->attempts[source] == NULL)
			continue;
		tms_attempt_end(image->attempts[source], beaten);
		image->attempts[source] = NULL;
		count_attempt(set, image, -1);
	}
}

/* The image is final: with these bytes from this source, or, with NULL, unavailable. */
static void settle_image(TmsImageSet *set, Image *image, bytea *bytes, const char *source)
{
	end_attempts(set, image, true);
	dlist_delete(&image->node);
	dlist_push_tail(&set->settled, &image->node);
	image->public.state = TMS_IMAGE_SETTLED;
	set->n_ready += image->counted ? 0 : 1;
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
 * What every attempt came to passes here, and only here: its source either delivered or failed for a reason.
 */
static void record_outcome(TmsImageSet *set, const Image *image, const TmsAttempt *attempt)
{
	const TmsFetch *fetch = attempt->fetch;
	TmsRequestResult result = fetch->outcome == TMS_FETCH_OK             ? TMS_REQUEST_DELIVERED
							  : fetch->outcome == TMS_FETCH_WRONG_DIGEST ? TMS_REQUEST_WRONG_DIGEST
																		 : TMS_REQUEST_FAILED;

	tms_fetch_stats_ended(attempt->source, result, fetch->bytes, fetch->elapsed);
	if (result == TMS_REQUEST_WRONG_DIGEST)
	{
		set->counters->digest_failures++;
		tms_digest_log(attempt->source, image->request.capture_id,
					   tms_device_get(set->devices, image->request.device_id)->code, image->request.path);
	}
}

/* Puts the source of an attempt in front of those that are still to be asked. */
static void ask_again(Image *image, TmsOrigin source)
{
	memmove(&image->sources[image->next_source + 1], &image->sources[image->next_source],
			sizeof(image->sources[0]) * (image->n_sources - image->next_source));
	image->sources[image->next_source] = source;
	image->n_sources++;
	image->asked_again = true;
}

static void attempt_ended(TmsImageSet *set, TmsAttempt *attempt)
{
	Image *image = attempt->owner;
	TmsFetch *fetch = attempt->fetch;

	image->attempts[attempt->source] = NULL;
	count_attempt(set, image, -1);
	if (tms_attempt_was_neglected(attempt) && !image->asked_again)
		ask_again(image, attempt->source);
	else
	{
		record_outcome(set, image, attempt);
		if (fetch->outcome != TMS_FETCH_OK)
			note_error(set, image, tms_origin_name(attempt->source), fetch->reason);
		else
		{
			set->n_running--;
			settle_image(set, image, fetch->body, tms_origin_name(attempt->source));
			fetch->body = NULL;
		}
	}
	tms_attempt_end(attempt, false);
	if (image->public.state == TMS_IMAGE_SETTLED || image->n_attempts > 0)
		return;
	set->n_running--;
	dlist_delete(&image->node);
	dlist_push_head(&set->waiting, &image->node);
	image->public.state = TMS_IMAGE_WAITING;
}

static void take_ended(TmsImageSet *set)
{
	TmsAttempt *attempt;

	while ((attempt = tms_attempt_next(set->attempts)) != NULL)
		attempt_ended(set, attempt);
}

/* --- sending --- */

/* An image has been asked of its next source. */
static void note_sent(TmsImageSet *set, Image *image, TmsAttempt *attempt)
{
	TmsOrigin source = image->sources[image->next_source++];

	image->attempts[source] = attempt;
	count_attempt(set, image, 1);
	if (source == TMS_ORIGIN_IMAGE_CENTER)
		set->counters->requests_image_center++;
	else
		set->counters->requests_front_end++;
	tms_fetch_stats_sent(source);
	if (image->public.state == TMS_IMAGE_RUNNING)
		return;
	dlist_delete(&image->node);
	dlist_push_tail(&set->running, &image->node);
	image->public.state = TMS_IMAGE_RUNNING;
	set->n_running++;
}

/* An image is asked of a source other than the one before, which has failed. */
static void count_failover(TmsImageSet *set, Image *image)
{
	TmsOrigin before;

	if (image->next_source < 2 || image->failed_over)
		return;
	before = image->sources[image->next_source - 2];
	if (before == image->sources[image->next_source - 1])
		return;
	image->failed_over = true;
	set->counters->failovers++;
	tms_fetch_stats_failed_over(before);
}

/* Sends a waiting image, or settles it when no source is left; false when it has to wait. */
static bool try_to_send(TmsImageSet *set, Image *image)
{
	while (image->next_source < image->n_sources)
	{
		TmsOrigin source = image->sources[image->next_source];
		TmsAttempt *attempt;
		const char *why;

		switch (tms_attempt_start(set->attempts, source, TMS_WANTED_BODY, &image->request, image, &attempt, &why))
		{
			case TMS_ATTEMPT_STARTED:
				note_sent(set, image, attempt);
				count_failover(set, image);
				return true;
			case TMS_ATTEMPT_BUSY:
				set->busy = true;
				return false;
			case TMS_ATTEMPT_LATER:
				return false;
			case TMS_ATTEMPT_REFUSED:
				note_error(set, image, tms_origin_name(source), why);
				image->next_source++;
				break;
		}
	}
	settle_image(set, image, NULL, NULL);
	return true;
}

/* May so many more bytes be admitted? One image always may. */
static bool fits_budget(const TmsImageSet *set, int64 bytes)
{
	return bytes == 0 || set->admitted_bytes == 0 || set->admitted_bytes + bytes <= set->options->prefetch_memory;
}

/* Has the caller enough to do, so that more images would only fill memory? While it waits for one it never has. */
static bool has_enough(const TmsImageSet *set, const Image *wanted)
{
	return set->n_ready >= set->options->concurrency && (wanted == NULL || wanted->public.state == TMS_IMAGE_SETTLED);
}

/*
 * Sends as many waiting images as concurrency and memory allow: the wanted one (NULL: none is) first, whatever the memory,
 * since only its delivery will make room, then the others in their order.
 */
static void send_waiting(TmsImageSet *set, Image *wanted)
{
	dlist_mutable_iter iter;
	int passed_over = 0;

	set->busy = false;
	if (has_enough(set, wanted))
		return;
	if (wanted != NULL && wanted->public.state == TMS_IMAGE_WAITING && set->n_running < set->options->concurrency)
		try_to_send(set, wanted);
	dlist_foreach_modify (iter, &set->waiting)
	{
		Image *image = dlist_container(Image, node, iter.cur);
		int64 more = image->admitted_bytes > 0 ? 0 : bytes_to_admit(set, image);

		if (set->n_running >= set->options->concurrency || passed_over > LOOK_AHEAD || !fits_budget(set, more))
			break;
		if (!try_to_send(set, image))
			passed_over++;
	}
}

/* --- hedging --- */

/* When the next source of an image is to be asked as well; NEVER when it is not. */
static int64 hedge_due(const TmsImageSet *set, const Image *image)
{
	int source = 0;

	if (set->options->hedge_after == 0 || image->hedged || image->n_attempts != 1 ||
		image->next_source >= image->n_sources)
		return NEVER;
	while (image->attempts[source] == NULL)
		source++;
	return tms_fetch_sent_at(image->attempts[source]->fetch) + set->options->hedge_after * INT64CONST(1000);
}

/* Should this source have the image, by the watermarks? A front end that has cleaned it is not bothered with hedges. */
static bool should_have(TmsImageSet *set, const Image *image, TmsOrigin source)
{
	TmsExpected expected = tms_device_expected(set->devices, image->request.capture_id);

	return expected == TMS_EXPECTED_BOTH ||
		   expected == (source == TMS_ORIGIN_FRONT_END ? TMS_EXPECTED_FRONT_END : TMS_EXPECTED_IMAGE_CENTER);
}

static void hedge(TmsImageSet *set, Image *image)
{
	TmsOrigin slow = image->sources[image->next_source - 1];
	TmsAttempt *attempt;
	const char *why;

	if (!should_have(set, image, image->sources[image->next_source]))
	{
		image->hedged = true;
		return;
	}
	switch (tms_attempt_start(set->attempts, image->sources[image->next_source], TMS_WANTED_BODY, &image->request,
							  image, &attempt, &why))
	{
		case TMS_ATTEMPT_STARTED:
			note_sent(set, image, attempt);
			image->hedged = true;
			set->counters->hedges++;
			tms_fetch_stats_hedged(slow);
			break;
		case TMS_ATTEMPT_REFUSED:
			/* Its turn, and its reason, come if the first source fails. */
			image->hedged = true;
			break;
		case TMS_ATTEMPT_BUSY:
		case TMS_ATTEMPT_LATER:
			break;
	}
}

/* Asks the next source of all images that take too long, as memory allows; the wanted one's always. */
static void send_hedges(TmsImageSet *set, const Image *wanted)
{
	int64 now = tms_poller_clock();
	dlist_iter iter;

	if (set->options->hedge_after == 0)
		return;
	dlist_foreach (iter, &set->running)
	{
		Image *image = dlist_container(Image, node, iter.cur);
		int64 due = hedge_due(set, image);

		if (due != NEVER && due <= now && (image == wanted || fits_budget(set, bytes_to_admit(set, image))))
			hedge(set, image);
	}
}

/* Until when a wait may last that nothing else ends: to the next hedge, or to the next look for what cannot be sent now. */
static int64 next_look(TmsImageSet *set)
{
	int64 now = tms_poller_clock();
	int64 look = set->busy ? now + LOOK_AGAIN : NEVER;
	dlist_iter iter;

	dlist_foreach (iter, &set->running)
	{
		int64 due = hedge_due(set, dlist_container(Image, node, iter.cur));

		if (due == NEVER)
			continue;
		/* One that was due already could not be sent. */
		due = due > now ? due : now + LOOK_AGAIN;
		look = look == NEVER ? due : Min(look, due);
	}
	return look;
}

/* Takes what has come and sends what may be sent. */
static void move_on(TmsImageSet *set, Image *wanted)
{
	MemoryContext previous = MemoryContextSwitchTo(set->scratch);

	take_ended(set);
	send_hedges(set, wanted);
	send_waiting(set, wanted);
	MemoryContextSwitchTo(previous);
	MemoryContextReset(set->scratch);
}

/* --- what others call --- */

/*
 * Counts an image against tms.max_images when it is first wanted: what was looked ahead for and is never wanted does not
 * count. A statement may have any number of scans and calls.
 */
static void count_image(TmsImageSet *set, Image *image)
{
	static TimestampTz statement = 0;
	static int64 n_images = 0;
	TimestampTz this_statement = GetCurrentStatementStartTimestamp();

	if (image->counted)
		return;
	image->counted = true;
	set->n_ready -= image->public.state == TMS_IMAGE_SETTLED ? 1 : 0;
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
	set->attempts = tms_attempt_group_create(context, options, set->devices);
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

void tms_image_go_on(TmsImageSet *set)
{
	tms_fetch_go_on();
	move_on(set, NULL);
}

void tms_image_wait(TmsImageSet *set, TmsImage *public)
{
	Image *image = (Image *) public;

	count_image(set, image);
	move_on(set, image);
	while (public->state != TMS_IMAGE_SETTLED)
	{
		int64 begin = tms_poller_clock();

		tms_attempt_wait(set->attempts, next_look(set));
		set->counters->wait_us += tms_poller_clock() - begin;
		move_on(set, image);
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

	if (public->state == TMS_IMAGE_RUNNING)
		set->n_running--;
	if (public->state == TMS_IMAGE_SETTLED && !image->counted)
		set->n_ready--;
	end_attempts(set, image, false);
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
