/*
 * Devices and ledgers as the wrapper needs them, read as the extension's owner and never through the caller's query.
 */
#ifndef TMS_DEVICE_H
#define TMS_DEVICE_H

#include "postgres.h"

#include "common/url_sign.h"

typedef struct TmsDevice
{
	int32 device_id;
	const char *code;
	const char *site; /* or NULL */
	const char *base_url; /* without a trailing slash, or NULL: the front end cannot be asked */
	bool enabled;
	bool has_url_key;
	uint8 url_key[TMS_URL_KEY_SIZE]; /* secret: never printed */
} TmsDevice;

/* Where a capture's bytes should be, by the watermarks of its ledger. */
typedef enum TmsExpected
{
	TMS_EXPECTED_BOTH,
	TMS_EXPECTED_FRONT_END,
	TMS_EXPECTED_IMAGE_CENTER,
	TMS_EXPECTED_LOST,
} TmsExpected;

/* Devices and ledgers read so far, for one scan or call; lives in its memory context. */
typedef struct TmsDeviceCache TmsDeviceCache;

/* An empty cache in this context, which owns all that is read. */
extern TmsDeviceCache *tms_device_cache_create(MemoryContext context);

/* The device of that id, read on first use; NULL when there is none. Owned by the cache. */
extern const TmsDevice *tms_device_get(TmsDeviceCache *cache, int32 device_id);

/*
 * By the watermarks alone, no request: the image center counts from verified upload on, the front end until cleaning; "both"
 * when nothing is known of the ledger.
 */
extern TmsExpected tms_device_expected(TmsDeviceCache *cache, int64 capture_id);

/* Is capture_id above its ledger's uploaded_max (the front end is asked first)? */
extern bool tms_device_above_uploaded_max(TmsDeviceCache *cache, int64 capture_id);

/* "both", "front_end", "image_center" or "lost"; static memory. */
extern const char *tms_expected_name(TmsExpected expected);

#endif
