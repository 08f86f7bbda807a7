/*
 * Checks where images are, without keeping any: each is looked for in the image center and, when that says that it has none,
 * at the front end that took it, which is asked by HEAD alone. Many at once, under the same breakers and limits as queries.
 *
 * What a check finds is the word of the sources themselves, never a guess: who cannot be asked leaves it unknown. Failures that
 * may pass are tried twice. Everything lives in the context given at creation, whose reset (normal end, error) ends all requests.
 */
#ifndef TMS_IMAGE_CHECK_H
#define TMS_IMAGE_CHECK_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "tms_fdw/fetch.h"
#include "tms_fdw/image_fetch.h"
#include "tms_fdw/option.h"

typedef enum TmsVerdict
{
	TMS_VERDICT_IMAGE_CENTER, /* the image center has it */
	TMS_VERDICT_FRONT_END, /* the image center has it not, the front end has */
	TMS_VERDICT_NOWHERE, /* nor has the front end */
	TMS_VERDICT_WRONG_BYTES, /* the image center has something else in its place */
	TMS_VERDICT_UNKNOWN, /* who may have it could not be asked */
	TMS_VERDICT_COUNT
} TmsVerdict;

/* "image_center", "front_end", "nowhere", "wrong_bytes" or "unknown"; static memory. */
extern const char *tms_verdict_name(TmsVerdict verdict);

typedef struct TmsImageChecks TmsImageChecks;

/* One image that is checked. */
typedef struct TmsImageCheck
{
	TmsImageRequest request; /* its path is the check's own */
	TimestampTz captured_at; /* the caller's */
	TmsVerdict verdict; /* once tms_image_check_next has returned it */
	const char
		*reason; /* every source that has it not, or could not be asked, and why; NULL: the image center has it */
} TmsImageCheck;

/*
 * Begins in a child of `parent`. By GET the image center's bytes are read and compared with the digest; by HEAD only their
 * number is. Options outlive it.
 */
extern TmsImageChecks *tms_image_checks_create(MemoryContext parent, const TmsServerOptions *options,
											   TmsFetchWanted wanted);

/* Adds an image; copies the request. Never blocks. */
extern void tms_image_check_submit(TmsImageChecks *checks, const TmsImageRequest *request, TimestampTz captured_at);

/* Images that were submitted and whose verdict is not known yet. */
extern int tms_image_checks_pending(const TmsImageChecks *checks);

/*
 * Waits until one is settled and returns it; NULL when none is left, or when none was settled until that moment of
 * tms_poller_clock (-1: no such moment). Cancellable: raises the query's own cancel or timeout error.
 */
extern TmsImageCheck *tms_image_check_next(TmsImageChecks *checks, int64 until);

/* Frees one that was returned. */
extern void tms_image_check_free(TmsImageCheck *check);

/* The code of a device, owned by the checks; NULL: it is not registered. */
extern const char *tms_image_checks_device(TmsImageChecks *checks, int32 device_id);

#endif
