/*
 * What fetching images has come to so far, per source, for the view tms.stat_images.
 */
#ifndef TMS_FETCH_STATS_H
#define TMS_FETCH_STATS_H

#include "postgres.h"

/* Where the bytes of an image can come from. */
typedef enum TmsOrigin
{
	TMS_ORIGIN_IMAGE_CENTER,
	TMS_ORIGIN_FRONT_END,
	TMS_ORIGIN_COUNT
} TmsOrigin;

/* "image_center" or "front_end"; static memory. */
extern const char *tms_origin_name(TmsOrigin origin);

/* How one request ended. */
typedef enum TmsRequestResult
{
	TMS_REQUEST_DELIVERED,
	TMS_REQUEST_FAILED,
	TMS_REQUEST_WRONG_DIGEST,
} TmsRequestResult;

/* Called once by _PG_init. */
extern void tms_fetch_stats_init(void);

/* A request was sent; it is counted even if a cancel ends it. */
extern void tms_fetch_stats_sent(TmsOrigin origin);

/* A request ended by itself. For a delivered image: its bytes and the microseconds from sending to the last of them. */
extern void tms_fetch_stats_ended(TmsOrigin origin, TmsRequestResult result, int64 bytes, int64 elapsed);

/* An image that this source failed to deliver is asked of another one. */
extern void tms_fetch_stats_failed_over(TmsOrigin origin);

/* An image that this source has not delivered in time is asked of another one as well. */
extern void tms_fetch_stats_hedged(TmsOrigin origin);

#endif
