/*
 * The sources of an image: the order in which they are asked, and the request that asks each.
 */
#include "postgres.h"

#include <time.h>

#include "common/object_path.h"
#include "common/url_sign.h"
#include "tms_fdw/address.h"
#include "tms_fdw/base_url.h"
#include "tms_fdw/source.h"

#define SIGNATURE_SPARE 60 /* seconds that a signed URL outlives its request, for clocks that differ */
#define PROBE_SPARE     1000 /* milliseconds that a breaker waits for word of a probe after its timeout */

int tms_source_order(const TmsServerOptions *options, TmsDeviceCache *devices, int64 capture_id,
					 TmsOrigin sources[TMS_ORIGIN_COUNT])
{
	bool front_end_first;

	if (options->source != TMS_SOURCE_AUTO || !options->front_end)
	{
		sources[0] = options->source == TMS_SOURCE_FRONT_END ? TMS_ORIGIN_FRONT_END : TMS_ORIGIN_IMAGE_CENTER;
		return 1;
	}
	front_end_first = options->prefer == TMS_PREFER_FRONT_END || tms_device_above_uploaded_max(devices, capture_id);
	sources[0] = front_end_first ? TMS_ORIGIN_FRONT_END : TMS_ORIGIN_IMAGE_CENTER;
	sources[1] = front_end_first ? TMS_ORIGIN_IMAGE_CENTER : TMS_ORIGIN_FRONT_END;
	return 2;
}

/* The URL of an object of the image center, or NULL and *why not. */
static char *object_url(const TmsServerOptions *options, const TmsDevice *device, const char *path, const char **why)
{
	char key[TMS_OBJECT_KEY_SIZE];

	if (device == NULL)
		*why = "device is not registered";
	else if (!tms_object_key(device->code, path, key))
		*why = "storage path is not valid";
	else
		return psprintf("%s/%s", options->url, key);
	return NULL;
}

/* The URL of a front end's cache server, good until `expires` (seconds since 1970), or NULL and *why not. */
static char *signed_url(const TmsServerOptions *options, const TmsDevice *device, const char *path, int64 expires,
						const char **why)
{
	char signature[TMS_URL_SIGNATURE_SIZE];
	char *url_path;

	if (!options->front_end)
		*why = "turned off for this server";
	else if (device == NULL)
		*why = "device is not registered";
	else if (!device->enabled)
		*why = "device is disabled";
	else if (device->base_url == NULL || !device->has_url_key)
		*why = "device has no address or key";
	else if (!tms_storage_path_valid(path, strlen(path)))
		*why = "storage path is not valid";
	else
	{
		url_path = psprintf(TMS_URL_PREFIX "%s", path);
		if (tms_url_signature(device->url_key, url_path, expires, signature))
			return psprintf("%s%s?expires=" INT64_FORMAT "&sig=%s", device->base_url, url_path, expires, signature);
		*why = "URL could not be signed";
	}
	return NULL;
}

const char *tms_source_request(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices,
							   int32 device_id, const char *path, TmsFetchRequest *request)
{
	const TmsDevice *device = tms_device_get(devices, device_id);
	const char *why = NULL;

	if (source == TMS_ORIGIN_FRONT_END)
	{
		request->url =
			signed_url(options, device, path, (int64) time(NULL) + SIGNATURE_SPARE + options->timeout / 1000, &why);
		request->allow_loopback = request->url != NULL && tms_url_names_loopback(device->base_url);
		return why;
	}
	request->url = object_url(options, device, path, &why);
	request->username = options->username;
	request->password = options->password;
	request->bearer_token = options->bearer_token;
	request->allow_loopback = true;
	return why;
}

char *tms_source_public_url(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices, int32 device_id,
							const char *path, int64 expires, const char **why)
{
	const TmsDevice *device = tms_device_get(devices, device_id);

	if (source == TMS_ORIGIN_FRONT_END)
		return signed_url(options, device, path, expires, why);
	if (options->username == NULL && options->bearer_token == NULL)
		return object_url(options, device, path, why);
	*why = "asks for credentials, which a URL cannot carry";
	return NULL;
}

void tms_source_breaker(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices, int32 device_id,
						TmsBreaker *breaker)
{
	const TmsDevice *device = source == TMS_ORIGIN_FRONT_END ? tms_device_get(devices, device_id) : NULL;
	const char *base_url = source == TMS_ORIGIN_IMAGE_CENTER ? options->url : device != NULL ? device->base_url : NULL;

	breaker->serverid = options->serverid;
	breaker->origin = source;
	breaker->failures = options->breaker_failures;
	breaker->cooldown = options->breaker_cooldown;
	breaker->probe_limit = options->timeout + PROBE_SPARE;
	tms_url_endpoint(base_url != NULL ? base_url : "", breaker->endpoint, sizeof(breaker->endpoint));
}
