/*
 * One attempt to get an image from one source: whether it may be made now, by the circuit breaker and the limits of front
 * ends, its request, and what its outcome says of the source. Knows nothing of the other source and of what is asked for next.
 *
 * A group of attempts belongs to one memory context, whose reset (normal end, error, subtransaction abort) ends them all and
 * gives back what they hold in shared memory.
 */
#ifndef TMS_ATTEMPT_H
#define TMS_ATTEMPT_H

#include "postgres.h"

#include "lib/ilist.h"

#include "tms_ext/breaker.h"
#include "tms_ext/device_slots.h"
#include "tms_ext/fetch_stats.h"
#include "tms_fdw/device.h"
#include "tms_fdw/fetch.h"
#include "tms_fdw/image_fetch.h"
#include "tms_fdw/option.h"

typedef struct TmsAttemptGroup TmsAttemptGroup;

typedef struct TmsAttempt
{
	TmsAttemptGroup *group;
	dlist_node node; /* in the group's running, until its source has been told of its end */
	dlist_node session_node; /* as long, among all of the session */
	bool running;
	void *owner; /* the caller's, as given at start */
	TmsOrigin source;
	TmsFetchWanted wanted;
	int32 device_id;
	TmsFetch *fetch;
	TmsBreaker breaker;
	uint64 probe;
	TmsDeviceSlot slot;
} TmsAttempt;

/* What came of wanting to start an attempt. */
typedef enum TmsAttemptStart
{
	TMS_ATTEMPT_STARTED,
	TMS_ATTEMPT_LATER, /* when another one of the group has ended */
	TMS_ATTEMPT_BUSY, /* when others have left its front end, or given back descriptors: to be tried again after a while */
	TMS_ATTEMPT_REFUSED, /* for a reason */
} TmsAttemptStart;

/* A group in this context, whose reset ends it; options and devices outlive it. */
extern TmsAttemptGroup *tms_attempt_group_create(MemoryContext context, const TmsServerOptions *options,
												 TmsDeviceCache *devices);

/*
 * Starts an attempt if it may be made now: *started gets it, or *why, in the current context or static memory, the reason why
 * this source cannot be asked. The image has a path. End with tms_attempt_end.
 */
extern TmsAttemptStart tms_attempt_start(TmsAttemptGroup *group, TmsOrigin source, TmsFetchWanted wanted,
										 const TmsImageRequest *image, void *owner, TmsAttempt **started,
										 const char **why);

/* Waits until one of the group has ended, or until that moment; as tms_fetch_wait. */
extern void tms_attempt_wait(TmsAttemptGroup *group, int64 until);

/* One that has ended, its source told so; NULL when there is none now. Its fetch has the outcome. */
extern TmsAttempt *tms_attempt_next(TmsAttemptGroup *group);

/* May it have failed only because nobody read its answer for a while? */
extern bool tms_attempt_was_neglected(const TmsAttempt *attempt);

/*
 * Ends an attempt, running or not, and frees it with its body. One that is `beaten`, because the other source delivered first,
 * tells against its source if it took longer than hedge_after.
 */
extern void tms_attempt_end(TmsAttempt *attempt, bool beaten);

#endif
