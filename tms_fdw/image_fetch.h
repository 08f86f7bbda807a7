/*
 * Images by capture: which source to ask in which order, and what to do when one fails. Sits between the scan (or
 * tms.image) above and the fetch engine (fetch.h) below; knows neither the executor nor libcurl.
 *
 * A set of images belongs to one scan or one function call. Images are submitted in the order in which they will be
 * wanted and taken in any order; requests run while the caller waits for any of them. Everything is palloc'd in the
 * set's memory context, whose reset (normal end, error, subtransaction abort) ends every request that is under way.
 */
#ifndef TMS_IMAGE_FETCH_H
#define TMS_IMAGE_FETCH_H

#include "postgres.h"

#include "option.h"

/* What EXPLAIN ANALYZE and tms.stat_images count. */
typedef struct TmsFetchCounters
{
	int64 images; /* delivered */
	int64 bytes;
	int64 unavailable;
	int64 requests_image_center;
	int64 requests_front_end;
	int64 failovers; /* images for which a second source was asked after the first had failed */
	int64 hedges;
	int64 digest_failures;
	int64 wait_us; /* time the executor waited for bytes */
} TmsFetchCounters;

/* What the path center knows of one image. */
typedef struct TmsImageRequest
{
	int64 capture_id;
	int32 device_id;
	const char *path; /* NULL: the row has none */
	int64 image_bytes; /* -1: the row has none */
	bool has_sha256;
	uint8 sha256[32];
} TmsImageRequest;

typedef enum TmsImageState
{
	TMS_IMAGE_WAITING, /* submitted, not yet sent (concurrency or memory) */
	TMS_IMAGE_RUNNING,
	TMS_IMAGE_SETTLED, /* image, source and error are final */
} TmsImageState;

typedef struct TmsImage
{
	TmsImageState state;
	bytea *image; /* NULL when unavailable; verified bytes otherwise */
	const char *source; /* "image_center", "front_end", or NULL */
	const char *error; /* NULL, or each source that failed with its reason, also when the other one delivered */
} TmsImage;

typedef struct TmsImageSet TmsImageSet;

/* Starts a set in a child of `parent`; nothing is sent. The counters belong to the caller and outlive the set. */
extern TmsImageSet *tms_image_set_create(MemoryContext parent, const TmsServerOptions *options,
										 TmsFetchCounters *counters);

/* Adds an image; copies the request. Never blocks. */
extern TmsImage *tms_image_submit(TmsImageSet *set, const TmsImageRequest *request);

/*
 * Runs the set until this image is settled. Counts it (once) against tms.max_images, which holds for all sets of a statement
 * together: error 54000 with a hint. Cancellable: raises the query's own cancel or timeout error. With
 * on_unavailable = error raises 58000 (or better) naming every source that failed.
 */
extern void tms_image_wait(TmsImageSet *set, TmsImage *image);

/* Sends what may be sent and works on what has come, without waiting: for a caller that has other things to do. */
extern void tms_image_go_on(TmsImageSet *set);

/* Ends an image in any state: frees its bytes and bookkeeping; its budget is free for the next. */
extern void tms_image_release(TmsImageSet *set, TmsImage *image);

/* Ends every request and frees the set. */
extern void tms_image_set_destroy(TmsImageSet *set);

#endif
