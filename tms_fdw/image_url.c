/*
 * tms.image_url: where a browser can load one image itself, so that its bytes do not pass through PostgreSQL. Asks nobody:
 * the watermarks of the capture's ledger tell which source has it, and its circuit breaker whether that one is up.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "tms_ext/breaker.h"
#include "tms_fdw/device.h"
#include "tms_fdw/image.h"
#include "tms_fdw/option.h"
#include "tms_fdw/source.h"

#define EXPIRES_MAX (7 * SECS_PER_DAY)

PG_FUNCTION_INFO_V1(tms_image_url);

/* The lifetime of a URL, in seconds. */
static int64 read_expires(const Interval *expires)
{
	double seconds = (double) expires->month * DAYS_PER_MONTH * SECS_PER_DAY + (double) expires->day * SECS_PER_DAY +
					 (double) expires->time / USECS_PER_SEC;

	if (seconds < 1 || seconds > EXPIRES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("expires is outside 1 second to 7 days"),
						errhint("Ask for a new URL when it is needed again.")));
	return (int64) ceil(seconds);
}

/*
 * The sources in the order in which they should have the image; unless one is asked for by name, a front end that has
 * cleaned it is none. (One that is said not to have it yet may have got it since.)
 */
static int order_sources(const TmsServerOptions *options, TmsDeviceCache *devices, int64 capture_id,
						 TmsOrigin sources[TMS_ORIGIN_COUNT])
{
	int n = tms_source_order(options, devices, capture_id, sources);

	if (n < TMS_ORIGIN_COUNT)
		return n;
	switch (tms_device_expected(devices, capture_id))
	{
		case TMS_EXPECTED_IMAGE_CENTER:
		case TMS_EXPECTED_LOST:
			sources[0] = TMS_ORIGIN_IMAGE_CENTER;
			return 1;
		case TMS_EXPECTED_FRONT_END:
			sources[0] = TMS_ORIGIN_FRONT_END;
			sources[1] = TMS_ORIGIN_IMAGE_CENTER;
			return 2;
		case TMS_EXPECTED_BOTH:
			break;
	}
	return n;
}

/* Is this source known to be down now? */
static bool is_down(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices, int32 device_id)
{
	TmsBreaker breaker;

	tms_source_breaker(source, options, devices, device_id, &breaker);
	return tms_breaker_is_open(&breaker);
}

/* The URL, or NULL when there is none, with the reasons. */
static char *find_url(const TmsServerOptions *options, const TmsImageRequest *request, int64 expires,
					  StringInfo reasons)
{
	TmsDeviceCache *devices = tms_device_cache_create(CurrentMemoryContext);
	TmsOrigin sources[TMS_ORIGIN_COUNT];
	int n = order_sources(options, devices, request->capture_id, sources);
	int i;

	if (request->path == NULL)
	{
		appendStringInfoString(reasons, "the capture has no storage path");
		return NULL;
	}
	if (n > 1 && is_down(sources[0], options, devices, request->device_id))
	{
		TmsOrigin down = sources[0];

		sources[0] = sources[1];
		sources[1] = down;
	}
	for (i = 0; i < n; i++)
	{
		const char *why = NULL;
		char *url =
			tms_source_public_url(sources[i], options, devices, request->device_id, request->path, expires, &why);

		if (url != NULL)
			return url;
		appendStringInfo(reasons, "%s%s: %s", i > 0 ? "; " : "", tms_origin_name(sources[i]), why);
	}
	return NULL;
}

/*
 * tms.image_url(capture_id, expires, server) returns text: NULL when there is no such capture, when the caller may not see it,
 * or when no source can be named (unless on_unavailable is error).
 */
Datum tms_image_url(PG_FUNCTION_ARGS)
{
	int64 lifetime = read_expires(PG_GETARG_INTERVAL_P(1));
	TmsServerOptions *options = tms_server_options_by_name(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	TmsImageRequest request;
	StringInfoData reasons;
	char *url;

	if (!tms_image_lookup(PG_GETARG_INT64(0), &request))
		PG_RETURN_NULL();
	initStringInfo(&reasons);
	url = find_url(options, &request, (int64) time(NULL) + lifetime, &reasons);
	if (url != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(url));
	if (options->on_unavailable == TMS_UNAVAILABLE_ERROR)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("there is no URL of the image of capture " INT64_FORMAT, request.capture_id),
						errdetail("%s", reasons.data), errhint("Set tms.on_unavailable to null to get NULL instead.")));
	PG_RETURN_NULL();
}
