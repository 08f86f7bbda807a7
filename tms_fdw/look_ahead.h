/*
 * How far to look ahead: for how many images behind the one that is wanted to ask.
 *
 * A caller that will take all images gets as many as the memory budget holds, so that a slow one stops no other. One that
 * may stop at any row (a cursor that fetches row by row, a LIMIT above) gets a few, and more with every one it takes, up to
 * as many as may be under way at once.
 */
#ifndef TMS_LOOK_AHEAD_H
#define TMS_LOOK_AHEAD_H

#include "postgres.h"

#include "tms_fdw/option.h"

#define TMS_LOOK_AHEAD_BY_RUN INT64CONST(0) /* as many as the run of the executor is to return */
#define TMS_LOOK_AHEAD_ALL    INT64CONST(-1) /* all there are, whatever that run returns */

/* Of one scan or call. Everything belongs to the functions below, but rows and bytes may be read. */
typedef struct TmsLookAhead
{
	const TmsServerOptions *options;
	int64 expected; /* images that will be taken, as far as is known beforehand, or one of the two above */
	int64 at_most; /* more are never taken; 0: not known */
	int64 taken;
	uint64 run; /* the run of the executor that took the last one */
	int64 taken_before_run;
	int rows; /* asked for and not taken yet */
	int64 bytes; /* of these */
} TmsLookAhead;

/* Begins; the options must live as long. */
extern void tms_look_ahead_begin(TmsLookAhead *look_ahead, const TmsServerOptions *options, int64 expected,
								 int64 at_most);

/* Should another image be asked for, beyond those asked for already? */
extern bool tms_look_ahead_further(TmsLookAhead *look_ahead);

/* An image of so many bytes (-1: unknown) was asked for, or taken. */
extern void tms_look_ahead_asked(TmsLookAhead *look_ahead, int64 image_bytes);
extern void tms_look_ahead_taken(TmsLookAhead *look_ahead, int64 image_bytes);

/* One that was taken is there to be taken once more. */
extern void tms_look_ahead_returned(TmsLookAhead *look_ahead, int64 image_bytes);

/* Called once by _PG_init. */
extern void tms_look_ahead_init(void);

#endif
