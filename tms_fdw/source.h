/*
 * The sources of an image: in which order to ask them, where, and why one cannot be asked. URLs are built from options and
 * registered devices; of a capture's row only the checked storage path goes into them.
 */
#ifndef TMS_SOURCE_H
#define TMS_SOURCE_H

#include "postgres.h"

#include "common/sigv4.h"
#include "tms_ext/breaker.h"
#include "tms_ext/fetch_stats.h"
#include "tms_fdw/device.h"
#include "tms_fdw/fetch.h"
#include "tms_fdw/option.h"

/*
 * Fills in the sources to ask for a capture, who promises most first, by the watermarks of its ledger, the server's options
 * and tms.image_source; returns how many.
 */
extern int tms_source_order(const TmsServerOptions *options, TmsDeviceCache *devices, int64 capture_id,
							TmsOrigin sources[TMS_ORIGIN_COUNT]);

/*
 * Fills in where and how to ask one source for what is wanted (a field that is set already) of an image: URL, credentials, whether its host may be a loopback address. Texts
 * are palloc'd or the options'. Returns NULL, or why that source cannot be asked, in static memory. path is not NULL.
 */
extern const char *tms_source_request(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices,
									  int32 device_id, const char *path, TmsFetchRequest *request);

/*
 * Fills in where and how to ask the image center for an object by its key (NULL: an S3 store's base URL itself), with the
 * parameters of an S3 store's query; the rest as above. Returns NULL, or why it cannot be asked.
 */
extern const char *tms_source_store_request(const TmsServerOptions *options, const char *key,
											const TmsSigv4Field *query, int query_count, TmsFetchRequest *request);

/*
 * The URL under which anybody can load an image from one source until `expires` (seconds since 1970) without further
 * credentials; palloc'd. NULL, and *why in static memory, when there is none. path is not NULL.
 */
extern char *tms_source_public_url(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices,
								   int32 device_id, const char *path, int64 expires, const char **why);

/* Whose breaker stands before a source: its endpoint and the server's rules. */
extern void tms_source_breaker(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices,
							   int32 device_id, TmsBreaker *breaker);

#endif
