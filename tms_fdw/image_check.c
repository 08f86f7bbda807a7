/*
 * Checks where images are.
 *
 * Life of a check, moved on by the one function named:
 *
 *   WAITING --send_check--> RUNNING --attempt_ended--> SETTLED      this source's word is the verdict
 *      ^                 |
 *      +--attempt_ended--+   to be asked again, or the front end is to be asked: WAITING for that source
 *   WAITING --send_check--> SETTLED                                 this source cannot be asked
 *
 * Invariants: a WAITING check is in checks->waiting[its source], a SETTLED one that nobody has taken in checks->settled; a
 * RUNNING one has an attempt and is in neither. n_pending counts those that are not SETTLED.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "tms_ext/fetch_stats.h"
#include "tms_fdw/attempt.h"
#include "tms_fdw/device.h"
#include "tms_fdw/image_check.h"
#include "tms_fdw/poller.h"

#define TRIES      2 /* of each source */
#define LOOK_AHEAD 64 /* checks behind one that waits for its front end that are looked at for others to send */
#define LOOK_AGAIN INT64CONST(20000) /* microseconds from one look to the next for what nobody tells us of */
#define NEVER      INT64CONST(-1)

typedef struct Check
{
	TmsImageCheck public; /* first: every TmsImageCheck is a Check */
	dlist_node node;
	TmsOrigin source; /* which is asked, or to be asked */
	int tries; /* of this source */
	StringInfoData reasons;
} Check;

struct TmsImageChecks
{
	MemoryContext context;
	MemoryContext scratch; /* texts of requests, until they are sent */
	const TmsServerOptions *options;
	TmsFetchWanted wanted; /* of the image center */
	TmsDeviceCache *devices;
	TmsAttemptGroup *attempts;
	dlist_head waiting[TMS_ORIGIN_COUNT];
	dlist_head settled;
	int n_running;
	int n_pending;
	bool busy; /* the last look found one that waits for others, who do not tell us when they leave */
};

const char *tms_verdict_name(TmsVerdict verdict)
{
	static const char *const names[TMS_VERDICT_COUNT] = {
		[TMS_VERDICT_IMAGE_CENTER] = "image_center", [TMS_VERDICT_FRONT_END] = "front_end",
		[TMS_VERDICT_NOWHERE] = "nowhere",           [TMS_VERDICT_WRONG_BYTES] = "wrong_bytes",
		[TMS_VERDICT_UNKNOWN] = "unknown",
	};

	return names[verdict];
}

/* --- states --- */

static void note_reason(TmsImageChecks *checks, Check *check, const char *source, const char *reason)
{
	MemoryContext previous = MemoryContextSwitchTo(checks->context);

	if (check->reasons.data == NULL)
		initStringInfo(&check->reasons);
	else
		appendStringInfoString(&check->reasons, "; ");
	appendStringInfo(&check->reasons, "%s%s%s", source != NULL ? source : "", source != NULL ? ": " : "", reason);
	MemoryContextSwitchTo(previous);
}

static void settle(TmsImageChecks *checks, Check *check, TmsVerdict verdict)
{
	check->public.verdict = verdict;
	check->public.reason = check->reasons.data;
	checks->n_pending--;
	dlist_push_tail(&checks->settled, &check->node);
}

static void await_source(TmsImageChecks *checks, Check *check, TmsOrigin source)
{
	if (check->source != source)
		check->tries = 0;
	check->source = source;
	dlist_push_tail(&checks->waiting[source], &check->node);
}

/*
 * A source cannot be asked. For the front end its ledger may have spoken before: what it has cleaned it does not have.
 */
static void settle_unasked(TmsImageChecks *checks, Check *check, const char *reason)
{
	TmsExpected expected = tms_device_expected(checks->devices, check->public.request.capture_id);
	bool cleaned = expected == TMS_EXPECTED_IMAGE_CENTER || expected == TMS_EXPECTED_LOST;

	note_reason(checks, check, tms_origin_name(check->source), reason);
	if (check->source == TMS_ORIGIN_FRONT_END && cleaned)
	{
		note_reason(checks, check, NULL, "it has reported it as cleaned");
		settle(checks, check, TMS_VERDICT_NOWHERE);
	}
	else
		settle(checks, check, TMS_VERDICT_UNKNOWN);
}

static bool says_absent(const TmsFetch *fetch)
{
	return fetch->outcome == TMS_FETCH_STATUS && (fetch->status == 404 || fetch->status == 410);
}

static bool says_different(const TmsFetch *fetch)
{
	return fetch->outcome == TMS_FETCH_WRONG_SIZE || fetch->outcome == TMS_FETCH_WRONG_DIGEST;
}

/* The image center has answered, or failed for good. */
static void image_center_spoke(TmsImageChecks *checks, Check *check, const TmsFetch *fetch)
{
	if (fetch->outcome == TMS_FETCH_OK)
	{
		settle(checks, check, TMS_VERDICT_IMAGE_CENTER);
		return;
	}
	if (!says_absent(fetch) && !says_different(fetch))
	{
		settle_unasked(checks, check, fetch->reason);
		return;
	}
	note_reason(checks, check, tms_origin_name(TMS_ORIGIN_IMAGE_CENTER), fetch->reason);
	if (says_absent(fetch))
		await_source(checks, check, TMS_ORIGIN_FRONT_END);
	else
		settle(checks, check, TMS_VERDICT_WRONG_BYTES);
}

static void front_end_spoke(TmsImageChecks *checks, Check *check, const TmsFetch *fetch)
{
	if (fetch->outcome == TMS_FETCH_OK)
	{
		settle(checks, check, TMS_VERDICT_FRONT_END);
		return;
	}
	if (!says_absent(fetch) && !says_different(fetch))
	{
		settle_unasked(checks, check, fetch->reason);
		return;
	}
	note_reason(checks, check, tms_origin_name(TMS_ORIGIN_FRONT_END), fetch->reason);
	settle(checks, check, TMS_VERDICT_NOWHERE);
}

static void attempt_ended(TmsImageChecks *checks, TmsAttempt *attempt)
{
	Check *check = attempt->owner;
	const TmsFetch *fetch = attempt->fetch;

	checks->n_running--;
	if (fetch->outcome != TMS_FETCH_OK && !says_absent(fetch) && check->tries < TRIES)
		await_source(checks, check, check->source);
	else if (check->source == TMS_ORIGIN_IMAGE_CENTER)
		image_center_spoke(checks, check, fetch);
	else
		front_end_spoke(checks, check, fetch);
	tms_attempt_end(attempt, false);
}

/* --- sending --- */

/* Sends a waiting check, or settles it when its source cannot be asked; false when it has to wait. */
static bool send_check(TmsImageChecks *checks, Check *check)
{
	TmsFetchWanted wanted = check->source == TMS_ORIGIN_IMAGE_CENTER ? checks->wanted : TMS_WANTED_HEAD;
	TmsAttempt *attempt;
	const char *why;

	switch (tms_attempt_start(checks->attempts, check->source, wanted, &check->public.request, check, &attempt, &why))
	{
		case TMS_ATTEMPT_STARTED:
			dlist_delete(&check->node);
			checks->n_running++;
			check->tries++;
			return true;
		case TMS_ATTEMPT_REFUSED:
			dlist_delete(&check->node);
			settle_unasked(checks, check, why);
			return true;
		case TMS_ATTEMPT_BUSY:
			checks->busy = true;
			return false;
		case TMS_ATTEMPT_LATER:
			return false;
	}
	return false;
}

static void send_waiting(TmsImageChecks *checks)
{
	MemoryContext previous = MemoryContextSwitchTo(checks->scratch);
	TmsOrigin source;

	checks->busy = false;
	/* The front ends first: what waits for them is further on its way. */
	for (source = TMS_ORIGIN_COUNT; source-- > 0;)
	{
		dlist_mutable_iter iter;
		int passed_over = 0;

		dlist_foreach_modify (iter, &checks->waiting[source])
		{
			if (checks->n_running >= checks->options->concurrency || passed_over > LOOK_AHEAD)
				break;
			if (!send_check(checks, dlist_container(Check, node, iter.cur)))
				passed_over++;
		}
	}
	MemoryContextSwitchTo(previous);
	MemoryContextReset(checks->scratch);
}

/* --- what others call --- */

TmsImageChecks *tms_image_checks_create(MemoryContext parent, const TmsServerOptions *options, TmsFetchWanted wanted)
{
	MemoryContext context = AllocSetContextCreate(parent, "tms image checks", ALLOCSET_DEFAULT_SIZES);
	TmsImageChecks *checks = MemoryContextAllocZero(context, sizeof(TmsImageChecks));
	TmsOrigin source;

	checks->context = context;
	checks->scratch = AllocSetContextCreate(context, "tms image check requests", ALLOCSET_SMALL_SIZES);
	checks->options = options;
	checks->wanted = wanted;
	checks->devices = tms_device_cache_create(context);
	checks->attempts = tms_attempt_group_create(context, options, checks->devices);
	for (source = 0; source < TMS_ORIGIN_COUNT; source++)
		dlist_init(&checks->waiting[source]);
	dlist_init(&checks->settled);
	return checks;
}

void tms_image_check_submit(TmsImageChecks *checks, const TmsImageRequest *request, TimestampTz captured_at)
{
	MemoryContext previous = MemoryContextSwitchTo(checks->context);
	Check *check = palloc0(sizeof(Check));

	check->public.request = *request;
	check->public.request.path = request->path != NULL ? pstrdup(request->path) : NULL;
	check->public.captured_at = captured_at;
	checks->n_pending++;
	if (request->path != NULL && request->image_bytes >= 0 && request->has_sha256)
		await_source(checks, check, TMS_ORIGIN_IMAGE_CENTER);
	else
	{
		note_reason(checks, check, NULL, "the row lacks path, image_bytes or sha256");
		settle(checks, check, TMS_VERDICT_UNKNOWN);
	}
	MemoryContextSwitchTo(previous);
}

int tms_image_checks_pending(const TmsImageChecks *checks)
{
	return checks->n_pending;
}

/* Waits for what is under way, or for the next look at what cannot be sent now. */
static void wait_for_sources(TmsImageChecks *checks, int64 until)
{
	int64 look = checks->busy ? tms_poller_clock() + LOOK_AGAIN : NEVER;

	if (look == NEVER || (until != NEVER && until < look))
		look = until;
	tms_attempt_wait(checks->attempts, look);
}

TmsImageCheck *tms_image_check_next(TmsImageChecks *checks, int64 until)
{
	while (dlist_is_empty(&checks->settled))
	{
		TmsAttempt *attempt;

		if (checks->n_pending == 0 || (until != NEVER && tms_poller_clock() >= until))
			return NULL;
		send_waiting(checks);
		if (!dlist_is_empty(&checks->settled))
			break;
		wait_for_sources(checks, until);
		while ((attempt = tms_attempt_next(checks->attempts)) != NULL)
			attempt_ended(checks, attempt);
	}
	/* Requests go on while the caller works on this one. */
	send_waiting(checks);
	return &dlist_container(Check, node, dlist_pop_head_node(&checks->settled))->public;
}

void tms_image_check_free(TmsImageCheck *public)
{
	Check *check = (Check *) public;

	if (check->reasons.data != NULL)
		pfree(check->reasons.data);
	if (public->request.path != NULL)
		pfree(unconstify(char *, public->request.path));
	pfree(check);
}

const char *tms_image_checks_device(TmsImageChecks *checks, int32 device_id)
{
	const TmsDevice *device = tms_device_get(checks->devices, device_id);

	return device != NULL ? device->code : NULL;
}
