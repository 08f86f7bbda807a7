/*
 * The sources of an image: the order in which they are asked, and the request that asks each.
 */
#include "postgres.h"

#include <time.h>

#include "common/object_path.h"
#include "common/s3.h"
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

/* The key of an object of the image center. Returns NULL, or why there is none. */
static const char *object_key(const TmsDevice *device, const char *path, char key[TMS_OBJECT_KEY_SIZE])
{
	if (device == NULL)
		return "device is not registered";
	if (!tms_object_key(device->code, path, key))
		return "storage path is not valid";
	return NULL;
}

/* --- S3 stores --- */

/* What is asked of an S3 store; without a key of the user's, requests are not signed. */
static TmsS3Request object_request(const TmsServerOptions *options, const char *key, const char *method)
{
	return (TmsS3Request){
		.method = method,
		.base_url = options->url,
		.key = key,
		.payload = TMS_S3_NO_PAYLOAD,
		.time = (int64) time(NULL),
	};
}

static TmsSigv4Credentials credentials_of(const TmsServerOptions *options)
{
	return (TmsSigv4Credentials){
		.access_key_id = options->access_key_id,
		.secret_access_key = options->secret_access_key,
		.session_token = options->session_token,
		.region = options->region,
	};
}

#define S3_HEADERS_MAX 8 /* with the NULL behind them */

/* The header lines of one request. */
typedef struct Headers
{
	const char **lines;
	int n_lines;
} Headers;

static bool add_header(void *arg, const char *line)
{
	Headers *headers = arg;

	headers->lines[headers->n_lines++] = pstrdup(line);
	return headers->n_lines < S3_HEADERS_MAX;
}

/* Fills in URL and, when the user has a key, signature of a request to an S3 store; returns NULL, or why not. */
static const char *s3_request(const TmsServerOptions *options, const TmsS3Request *object, TmsFetchRequest *request)
{
	TmsSigv4Credentials credentials = credentials_of(options);
	Headers headers = {palloc0(S3_HEADERS_MAX * sizeof(char *)), 0};
	char url[TMS_S3_URL_SIZE];

	if (options->access_key_id == NULL ? !tms_s3_url(object, url)
									   : !tms_s3_sign(&credentials, object, url, add_header, &headers))
		return "URL could not be signed";
	request->url = pstrdup(url);
	request->headers = headers.lines;
	return NULL;
}

/* The URL of an object of an S3 store that is good until `expires`, or NULL and *why not. */
static char *presigned_url(const TmsServerOptions *options, const char *key, int64 expires, const char **why)
{
	TmsSigv4Credentials credentials = credentials_of(options);
	TmsS3Request object = object_request(options, key, "GET");
	char url[TMS_S3_URL_SIZE];

	if (tms_s3_presign(&credentials, &object, Min(expires - object.time, TMS_SIGV4_EXPIRES_MAX), url))
		return pstrdup(url);
	*why = "URL could not be signed";
	return NULL;
}

/* --- front ends --- */

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

const char *tms_source_store_request(const TmsServerOptions *options, const char *key, const TmsSigv4Field *query,
									 int query_count, TmsFetchRequest *request)
{
	TmsS3Request object = object_request(options, key, request->wanted == TMS_WANTED_HEAD ? "HEAD" : "GET");

	request->allow_loopback = true;
	request->username = options->username;
	request->password = options->password;
	request->bearer_token = options->bearer_token;
	if (options->store != TMS_STORE_S3)
	{
		request->url = psprintf("%s/%s", options->url, key);
		return NULL;
	}
	request->s3_region = options->region;
	object.query = query;
	object.query_count = query_count;
	return s3_request(options, &object, request);
}

const char *tms_source_request(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices,
							   int32 device_id, const char *path, TmsFetchRequest *request)
{
	const TmsDevice *device = tms_device_get(devices, device_id);
	char key[TMS_OBJECT_KEY_SIZE];
	const char *why = NULL;

	if (source == TMS_ORIGIN_FRONT_END)
	{
		request->url =
			signed_url(options, device, path, (int64) time(NULL) + SIGNATURE_SPARE + options->timeout / 1000, &why);
		request->allow_loopback = request->url != NULL && tms_url_names_loopback(device->base_url);
		return why;
	}
	why = object_key(device, path, key);
	return why != NULL ? why : tms_source_store_request(options, key, NULL, 0, request);
}

char *tms_source_public_url(TmsOrigin source, const TmsServerOptions *options, TmsDeviceCache *devices, int32 device_id,
							const char *path, int64 expires, const char **why)
{
	const TmsDevice *device = tms_device_get(devices, device_id);
	char key[TMS_OBJECT_KEY_SIZE];

	if (source == TMS_ORIGIN_FRONT_END)
		return signed_url(options, device, path, expires, why);
	*why = object_key(device, path, key);
	if (*why != NULL)
		return NULL;
	if (options->access_key_id != NULL)
		return presigned_url(options, key, expires, why);
	if (options->username == NULL && options->bearer_token == NULL)
		return psprintf("%s/%s", options->url, key);
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
