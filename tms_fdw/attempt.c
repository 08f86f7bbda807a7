/*
 * One attempt to get an image from one source.
 *
 * What says that an endpoint is down: no connection, no answer in time, an answer that breaks off or is not what it should be
 * (size, digest), and the states 408, 429 and 5xx. Any other answer says that it is alive, also 404 and 403: the object is
 * missing, or one user's credentials are wrong, which must not keep the others from it. Failures of our own say nothing. One
 * that takes longer than hedge_after and is beaten by the other source has failed too: else its timeout would never be waited
 * for, and a dead source would cost every image that time.
 *
 * Invariant: an attempt is in its group's running from before it is sent until its source has been told of its end; only those
 * hold a probe or a slot.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "tms_fdw/attempt.h"
#include "tms_fdw/poller.h"
#include "tms_fdw/source.h"

struct TmsAttemptGroup
{
	MemoryContext context;
	MemoryContextCallback on_reset;
	const TmsServerOptions *options;
	TmsDeviceCache *devices;
	TmsFetchGroup *fetches;
	dlist_head running;
};

/* Those running of all groups of this session. */
static dlist_head session_attempts = DLIST_STATIC_INIT(session_attempts);

/* --- the end --- */

bool tms_attempt_was_neglected(const TmsAttempt *attempt)
{
	const TmsFetch *fetch = attempt->fetch;

	return fetch->stalled && (fetch->outcome == TMS_FETCH_BROKEN || fetch->outcome == TMS_FETCH_TIMED_OUT ||
							  fetch->outcome == TMS_FETCH_WRONG_SIZE);
}

static TmsBreakerSign outcome_sign(const TmsAttempt *attempt)
{
	static const TmsBreakerSign signs[] = {
		[TMS_FETCH_RUNNING] = TMS_SIGN_NONE,      [TMS_FETCH_OK] = TMS_SIGN_ALIVE,
		[TMS_FETCH_REFUSED] = TMS_SIGN_NONE,      [TMS_FETCH_UNREACHABLE] = TMS_SIGN_DOWN,
		[TMS_FETCH_TIMED_OUT] = TMS_SIGN_DOWN,    [TMS_FETCH_BROKEN] = TMS_SIGN_DOWN,
		[TMS_FETCH_STATUS] = TMS_SIGN_ALIVE,      [TMS_FETCH_WRONG_SIZE] = TMS_SIGN_DOWN,
		[TMS_FETCH_WRONG_DIGEST] = TMS_SIGN_DOWN, [TMS_FETCH_NO_MEMORY] = TMS_SIGN_NONE,
	};
	const TmsFetch *fetch = attempt->fetch;

	if (fetch == NULL || tms_attempt_was_neglected(attempt))
		return TMS_SIGN_NONE;
	if (fetch->outcome == TMS_FETCH_RUNNING && fetch->status == 0)
		return TMS_SIGN_SILENT;
	/* Who looks for such objects must not be kept from the rest of them, nor keep others from the good ones. */
	if (attempt->wanted != TMS_WANTED_BODY &&
		(fetch->outcome == TMS_FETCH_WRONG_SIZE || fetch->outcome == TMS_FETCH_WRONG_DIGEST))
		return TMS_SIGN_ALIVE;
	if (fetch->outcome == TMS_FETCH_STATUS && (fetch->status >= 500 || fetch->status == 408 || fetch->status == 429))
		return TMS_SIGN_DOWN;
	return signs[fetch->outcome];
}

/* Tells the source's breaker and gives back what the attempt holds. Raises no error: it is part of every abort. */
static void let_go(TmsAttempt *attempt, TmsBreakerSign sign, const char *reason)
{
	dlist_delete(&attempt->node);
	dlist_delete(&attempt->session_node);
	attempt->running = false;
	tms_breaker_report(&attempt->breaker, attempt->probe, sign, reason);
	tms_device_slot_give_back(&attempt->slot);
}

TmsAttempt *tms_attempt_next(TmsAttemptGroup *group)
{
	TmsFetch *fetch = tms_fetch_next(group->fetches);
	TmsAttempt *attempt;

	if (fetch == NULL)
		return NULL;
	attempt = fetch->owner;
	let_go(attempt, outcome_sign(attempt), fetch->reason);
	return attempt;
}

/* Has it been under way for longer than the server's hedge_after allows? */
static bool is_overdue(const TmsAttempt *attempt)
{
	const TmsFetch *fetch = attempt->fetch;
	int64 patience = attempt->group->options->hedge_after * INT64CONST(1000);

	return fetch->outcome == TMS_FETCH_RUNNING && !fetch->stalled &&
		   tms_poller_clock() - tms_fetch_sent_at(fetch) >= patience;
}

void tms_attempt_end(TmsAttempt *attempt, bool beaten)
{
	if (attempt->running && beaten && is_overdue(attempt))
		let_go(attempt, TMS_SIGN_DOWN, "slower than hedge_after");
	else if (attempt->running)
		let_go(attempt, outcome_sign(attempt), attempt->fetch->reason);
	tms_fetch_end(attempt->fetch);
	pfree(attempt);
}

/* --- the start --- */

/*
 * Gives back the slots of requests that have ended: those of a scan that is not looked at now would keep this session's other
 * scans waiting for itself.
 */
static void give_back_unneeded_slots(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &session_attempts)
	{
		TmsAttempt *attempt = dlist_container(TmsAttempt, session_node, iter.cur);

		if (attempt->fetch != NULL && attempt->fetch->outcome != TMS_FETCH_RUNNING)
			tms_device_slot_give_back(&attempt->slot);
	}
}

/* Has the group as many requests under way to this front end as one scan may have? */
static bool is_front_end_busy(TmsAttemptGroup *group, int32 device_id)
{
	dlist_iter iter;
	int n = 0;

	dlist_foreach (iter, &group->running)
	{
		const TmsAttempt *other = dlist_container(TmsAttempt, node, iter.cur);

		if (other->source == TMS_ORIGIN_FRONT_END && other->device_id == device_id)
			n++;
	}
	return n >= group->options->per_device_concurrency;
}

/* Has the group a request under way to this endpoint? */
static bool is_asked(TmsAttemptGroup *group, const TmsBreaker *breaker)
{
	dlist_iter iter;

	dlist_foreach (iter, &group->running)
	{
		const TmsBreaker *other = &dlist_container(TmsAttempt, node, iter.cur)->breaker;

		if (other->origin == breaker->origin && strcmp(other->endpoint, breaker->endpoint) == 0)
			return true;
	}
	return false;
}

/* Asks breaker and limits; what they give is the attempt's. */
static TmsAttemptStart admit(TmsAttemptGroup *group, TmsAttempt *attempt, const char **why)
{
	const TmsServerOptions *options = group->options;
	char reason[TMS_BREAKER_REASON_SIZE];
	TmsBreakerAnswer answer = tms_breaker_ask(&attempt->breaker, &attempt->probe, reason);

	if (answer == TMS_BREAKER_OPEN)
	{
		*why = psprintf("circuit breaker open (%s)", reason);
		return TMS_ATTEMPT_REFUSED;
	}
	/* Where the last request failed, one at a time is enough: or else all images of a scan would wait for it in turn. */
	if (answer == TMS_BREAKER_SUSPECT && is_asked(group, &attempt->breaker))
		return TMS_ATTEMPT_LATER;
	if (attempt->source != TMS_ORIGIN_FRONT_END)
		return TMS_ATTEMPT_STARTED;
	give_back_unneeded_slots();
	if (tms_device_slot_take(attempt->breaker.endpoint, options->per_device_concurrency, attempt->breaker.probe_limit,
							 &attempt->slot))
		return TMS_ATTEMPT_STARTED;
	tms_breaker_report(&attempt->breaker, attempt->probe, TMS_SIGN_NONE, NULL);
	return TMS_ATTEMPT_BUSY;
}

static void set_limits(TmsFetchRequest *request, const TmsServerOptions *options, const TmsImageRequest *image)
{
	request->ca_file = options->ca_file;
	request->expected_bytes = image->image_bytes;
	request->max_bytes = options->max_image_bytes;
	request->expected_sha256 = image->sha256;
	request->connect_timeout = options->connect_timeout;
	request->first_byte_timeout = options->first_byte_timeout;
	request->timeout = options->timeout;
}

TmsAttemptStart tms_attempt_start(TmsAttemptGroup *group, TmsOrigin source, TmsFetchWanted wanted,
								  const TmsImageRequest *image, void *owner, TmsAttempt **started, const char **why)
{
	TmsFetchRequest request = {.wanted = wanted};
	TmsAttemptStart result;
	TmsAttempt *attempt;

	if (source == TMS_ORIGIN_FRONT_END && is_front_end_busy(group, image->device_id))
		return TMS_ATTEMPT_LATER;
	if (!tms_fetch_has_room())
		return TMS_ATTEMPT_BUSY;
	attempt = MemoryContextAllocZero(group->context, sizeof(TmsAttempt));
	attempt->group = group;
	attempt->owner = owner;
	attempt->source = source;
	attempt->wanted = wanted;
	attempt->device_id = image->device_id;
	tms_source_breaker(source, group->options, group->devices, image->device_id, &attempt->breaker);
	result = admit(group, attempt, why);
	if (result != TMS_ATTEMPT_STARTED)
	{
		pfree(attempt);
		return result;
	}
	dlist_push_tail(&group->running, &attempt->node);
	dlist_push_tail(&session_attempts, &attempt->session_node);
	attempt->running = true;
	*why = tms_source_request(source, group->options, group->devices, image->device_id, image->path, &request);
	if (*why != NULL)
	{
		let_go(attempt, TMS_SIGN_NONE, NULL);
		pfree(attempt);
		return TMS_ATTEMPT_REFUSED;
	}
	set_limits(&request, group->options, image);
	attempt->fetch = tms_fetch_start(group->fetches, &request, attempt);
	*started = attempt;
	return TMS_ATTEMPT_STARTED;
}

/* --- groups --- */

/* The context of a group goes away, and its requests with it. No source has failed for that. */
static void end_group(void *arg)
{
	TmsAttemptGroup *group = arg;

	while (!dlist_is_empty(&group->running))
	{
		TmsAttempt *attempt = dlist_head_element(TmsAttempt, node, &group->running);
		bool running = attempt->fetch == NULL || attempt->fetch->outcome == TMS_FETCH_RUNNING;

		let_go(attempt, running ? outcome_sign(attempt) : TMS_SIGN_NONE, NULL);
	}
}

TmsAttemptGroup *tms_attempt_group_create(MemoryContext context, const TmsServerOptions *options,
										  TmsDeviceCache *devices)
{
	TmsAttemptGroup *group = MemoryContextAllocZero(context, sizeof(TmsAttemptGroup));

	group->context = context;
	group->options = options;
	group->devices = devices;
	group->fetches = tms_fetch_group_create(context);
	dlist_init(&group->running);
	group->on_reset.func = end_group;
	group->on_reset.arg = group;
	MemoryContextRegisterResetCallback(context, &group->on_reset);
	return group;
}

void tms_attempt_wait(TmsAttemptGroup *group, int64 until)
{
	tms_fetch_wait(group->fetches, until, dlist_is_empty(&group->running) ? TMS_WAIT_FRONT_END : TMS_WAIT_IMAGES);
}
