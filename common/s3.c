/*
 * S3 requests and refusals. Signing is in sigv4.c; here is what is S3's own: URLs, headers, and the XML of errors, which is
 * scanned for a few elements in a buffer of fixed size and never parsed: what is nested, referenced or endless has no effect.
 */
#include "s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOST_SIZE 272
#define PATH_SIZE 1024

/* A base URL taken apart. */
typedef struct Place
{
	char origin[HOST_SIZE + 8]; /* scheme, host and port as they are */
	char host[HOST_SIZE]; /* as in the header Host: without the scheme's own port */
	char path[PATH_SIZE]; /* decoded, with the key */
} Place;

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
		   : c >= 'a' && c <= 'f' ? c - 'a' + 10
		   : c >= 'A' && c <= 'F' ? c - 'A' + 10
								  : -1;
}

/* Decodes a path; false for a bad or zero byte and when it does not fit. */
static bool decode_path(const char *encoded, char *out, size_t size)
{
	size_t len = 0;

	for (; *encoded != '\0'; encoded++)
	{
		char c = *encoded;

		if (c == '%')
		{
			int high = hex_digit(encoded[1]);
			int low = high < 0 ? -1 : hex_digit(encoded[2]);

			if (low < 0 || (high | low) == 0)
				return false;
			c = (char) (high << 4 | low);
			encoded += 2;
		}
		if (len + 1 >= size)
			return false;
		out[len++] = c;
	}
	out[len] = '\0';
	return true;
}

static bool take_apart(const char *base_url, const char *key, Place *out)
{
	bool tls = strncasecmp(base_url, "https://", 8) == 0;
	size_t scheme = tls ? 8 : 7;
	const char *host = base_url + scheme;
	size_t host_len;
	const char *default_port = tls ? ":443" : ":80";
	size_t used;
	int len;

	if (!tls && strncasecmp(base_url, "http://", 7) != 0)
		return false;
	host_len = strcspn(host, "/");
	if (host_len == 0 || host_len >= HOST_SIZE)
		return false;
	for (size_t i = 0; i < host_len; i++)
		if (host[i] <= ' ' || host[i] > '~' || strchr("?#@", host[i]) != NULL)
			return false;
	snprintf(out->origin, sizeof(out->origin), "%.*s", (int) (scheme + host_len), base_url);
	snprintf(out->host, sizeof(out->host), "%.*s", (int) host_len, host);
	if (host_len > strlen(default_port) && strcmp(out->host + host_len - strlen(default_port), default_port) == 0)
		out->host[host_len - strlen(default_port)] = '\0';
	if (!decode_path(host + host_len, out->path, sizeof(out->path)))
		return false;
	used = strlen(out->path);
	len = snprintf(out->path + used, sizeof(out->path) - used, "%s%s", key != NULL || used == 0 ? "/" : "",
				   key != NULL ? key : "");
	return len >= 0 && (size_t) len < sizeof(out->path) - used;
}

/* The URL with this path and query. */
static bool make_url(const Place *place, const char *target, char url[TMS_S3_URL_SIZE])
{
	int len = snprintf(url, TMS_S3_URL_SIZE, "%s%s", place->origin, target);

	return len >= 0 && len < TMS_S3_URL_SIZE;
}

static TmsSigv4Request as_sigv4(const TmsS3Request *request, const Place *place)
{
	return (TmsSigv4Request){
		.method = request->method,
		.path = place->path,
		.query = request->query,
		.query_count = request->query_count,
		.payload = request->payload,
		.time = request->time,
	};
}

static bool add_field(TmsS3AddHeader *add, void *argument, const char *name, const char *value)
{
	char line[TMS_S3_LINE_SIZE];
	int len = snprintf(line, sizeof(line), "%s: %s", name, value);

	return len >= 0 && (size_t) len < sizeof(line) && add(argument, line);
}

bool tms_s3_sign(const TmsSigv4Credentials *credentials, const TmsS3Request *request, char url[TMS_S3_URL_SIZE],
				 TmsS3AddHeader *add, void *argument)
{
	TmsSigv4Credentials signer = *credentials;
	TmsSigv4Request signed_request;
	TmsSigv4Field headers[4];
	Place place;
	char time[TMS_SIGV4_TIME_SIZE];
	char authorization[TMS_SIGV4_VALUE_SIZE];
	char target[TMS_S3_URL_SIZE];
	int count = 0;

	signer.service = "s3";
	if (!take_apart(request->base_url, request->key, &place) || !tms_sigv4_time(request->time, time))
		return false;
	headers[count++] = (TmsSigv4Field){"host", place.host};
	headers[count++] = (TmsSigv4Field){"x-amz-content-sha256", request->payload};
	headers[count++] = (TmsSigv4Field){"x-amz-date", time};
	if (signer.session_token != NULL && signer.session_token[0] != '\0')
		headers[count++] = (TmsSigv4Field){"x-amz-security-token", signer.session_token};
	signed_request = as_sigv4(request, &place);
	signed_request.headers = headers;
	signed_request.header_count = count;
	if (!tms_sigv4_authorization(&signer, &signed_request, authorization) ||
		!tms_sigv4_target(&signed_request, target, sizeof(target)) || !make_url(&place, target, url))
		return false;
	for (int i = 0; i < count; i++)
		if (!add_field(add, argument, headers[i].name, headers[i].value))
			return false;
	return add_field(add, argument, "Authorization", authorization);
}

bool tms_s3_url(const TmsS3Request *request, char url[TMS_S3_URL_SIZE])
{
	TmsSigv4Request plain;
	Place place;
	char target[TMS_S3_URL_SIZE];

	if (!take_apart(request->base_url, request->key, &place))
		return false;
	plain = as_sigv4(request, &place);
	return tms_sigv4_target(&plain, target, sizeof(target)) && make_url(&place, target, url);
}

bool tms_s3_presign(const TmsSigv4Credentials *credentials, const TmsS3Request *request, int64_t expires,
					char url[TMS_S3_URL_SIZE])
{
	TmsSigv4Credentials signer = *credentials;
	TmsSigv4Request signed_request;
	TmsSigv4Field host;
	Place place;
	char target[TMS_S3_URL_SIZE];

	signer.service = "s3";
	if (!take_apart(request->base_url, request->key, &place))
		return false;
	host = (TmsSigv4Field){"host", place.host};
	signed_request = as_sigv4(request, &place);
	signed_request.payload = TMS_SIGV4_UNSIGNED;
	signed_request.headers = &host;
	signed_request.header_count = 1;
	return tms_sigv4_presign(&signer, &signed_request, expires, target, sizeof(target)) &&
		   make_url(&place, target, url);
}

/* --- answers --- */

/* Where `text` stands in the len bytes at data, which may hold anything; NULL: nowhere. */
static const char *find(const char *data, size_t len, const char *text)
{
	return memmem(data, len, text, strlen(text));
}

/* The character that one of XML's own five references stands for, and how long the reference is; 0: it is none. */
static char reference(const char *text, size_t len, size_t *used)
{
	static const struct
	{
		const char *name;
		char character;
	} references[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};

	for (size_t i = 0; i < sizeof(references) / sizeof(references[0]); i++)
	{
		*used = strlen(references[i].name);
		if (len >= *used && memcmp(text, references[i].name, *used) == 0)
			return references[i].character;
	}
	return 0;
}

/* Copies text of the store's as printable ASCII on one line. */
static void copy_text(const char *text, size_t len, char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < len && used + 1 < size; i++)
	{
		size_t skip;
		char c = text[i] == '&' ? reference(text + i, len - i, &skip) : 0;

		if (c != 0)
			i += skip - 1;
		else
			c = text[i];
		if (c == '\n' || c == '\r' || c == '\t')
			c = ' ';
		if (c == ' ' && (used == 0 || out[used - 1] == ' '))
			continue;
		out[used++] = c >= ' ' && c <= '~' ? c : '?';
	}
	while (used > 0 && out[used - 1] == ' ')
		used--;
	out[used] = '\0';
}

bool tms_s3_element(const char *body, size_t len, const char *name, char *out, size_t size)
{
	char tag[32];
	const char *start;
	size_t left;
	const char *end;

	snprintf(tag, sizeof(tag), "<%s>", name);
	start = find(body, len, tag);
	if (start == NULL)
		return false;
	start += strlen(tag);
	left = len - (size_t) (start - body);
	end = memchr(start, '<', left);
	copy_text(start, end != NULL ? (size_t) (end - start) : left, out, size);
	return true;
}

/* --- refusals --- */

void tms_s3_refusal_read(TmsS3Refusal *refusal, int status, const char *body, size_t len, const char *region,
						 int64_t store_time, int64_t now)
{
	memset(refusal, 0, sizeof(*refusal));
	refusal->status = status;
	if (store_time > 0)
		refusal->clock_ahead = now - store_time;
	if (find(body, len, "<Error") == NULL)
		return;
	(void) tms_s3_element(body, len, "Code", refusal->code, sizeof(refusal->code));
	(void) tms_s3_element(body, len, "Message", refusal->message, sizeof(refusal->message));
	(void) tms_s3_element(body, len, "Region", refusal->region, sizeof(refusal->region));
	(void) tms_s3_element(body, len, "Endpoint", refusal->endpoint, sizeof(refusal->endpoint));
	/* Some stores name the region with every refusal. */
	if (strcmp(refusal->region, region) == 0)
		refusal->region[0] = '\0';
}

/* What is known of codes, and of statuses without a code we know. The first rule that fits holds. */
typedef struct Rule
{
	const char *code; /* NULL: any */
	int status; /* 0: any */
	TmsS3Problem problem;
	const char *advice; /* NULL: the store's own message tells more */
} Rule;

static const Rule rules[] = {
	{"NoSuchKey", 0, TMS_S3_ABSENT, NULL},
	{"NoSuchBucket", 0, TMS_S3_MISCONFIGURED, "there is no such bucket; make it, or correct url"},
	{"PreconditionFailed", 0, TMS_S3_EXISTS, NULL},
	{"NotImplemented", 0, TMS_S3_NOT_SUPPORTED, NULL},
	{"XAmzContentSHA256Mismatch", 0, TMS_S3_DAMAGED, "other bytes arrived than were sent"},
	{"BadDigest", 0, TMS_S3_DAMAGED, "other bytes arrived than were sent"},
	{"RequestTimeout", 0, TMS_S3_BUSY, NULL},
	{"RequestTimeTooSkewed", 0, TMS_S3_MISCONFIGURED, "the clocks of this machine and of the store differ too much"},
	{"QuotaExceeded", 0, TMS_S3_MISCONFIGURED, "the quota of the user or bucket is used up"},
	{"InvalidAccessKeyId", 0, TMS_S3_MISCONFIGURED, "the store does not know access_key_id"},
	{"SignatureDoesNotMatch", 0, TMS_S3_MISCONFIGURED, "secret_access_key, or region, is wrong"},
	{"AuthorizationHeaderMalformed", 0, TMS_S3_MISCONFIGURED, NULL},
	{"AccessDenied", 0, TMS_S3_MISCONFIGURED, "access_key_id may not do this here"},
	{"ExpiredToken", 0, TMS_S3_MISCONFIGURED, "the session token has expired"},
	{"InvalidToken", 0, TMS_S3_MISCONFIGURED, NULL},
	{"InvalidBucketName", 0, TMS_S3_MISCONFIGURED, NULL},
	{NULL, 401, TMS_S3_MISCONFIGURED, NULL},
	{NULL, 403, TMS_S3_MISCONFIGURED, NULL},
	{NULL, 404, TMS_S3_ABSENT, NULL},
	{NULL, 408, TMS_S3_BUSY, NULL},
	{NULL, 409, TMS_S3_BUSY, NULL}, /* two requests for one object at once */
	{NULL, 412, TMS_S3_EXISTS, NULL},
	{NULL, 425, TMS_S3_BUSY, NULL},
	{NULL, 429, TMS_S3_BUSY, NULL},
	{NULL, 501, TMS_S3_NOT_SUPPORTED, NULL},
};

static const Rule *rule_of(const TmsS3Refusal *refusal)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if ((rules[i].code == NULL || strcmp(rules[i].code, refusal->code) == 0) &&
			(rules[i].status == 0 || rules[i].status == refusal->status))
			return &rules[i];
	return NULL;
}

static bool is_redirect(const TmsS3Refusal *refusal)
{
	return refusal->status >= 300 && refusal->status < 400;
}

TmsS3Problem tms_s3_refusal_problem(const TmsS3Refusal *refusal)
{
	const Rule *rule = rule_of(refusal);

	if (rule != NULL)
		return rule->problem;
	if (is_redirect(refusal))
		return TMS_S3_MISCONFIGURED;
	return refusal->status >= 500 ? TMS_S3_BUSY : TMS_S3_REFUSED;
}

/* Is it the clock? A HEAD's refusal has no body that could say so. */
static bool is_skewed(const TmsS3Refusal *refusal)
{
	return strcmp(refusal->code, "RequestTimeTooSkewed") == 0 || refusal->status == 403;
}

void tms_s3_refusal_explain(const TmsS3Refusal *refusal, char *out, size_t size)
{
	const Rule *rule = rule_of(refusal);
	const char *text = rule != NULL && rule->advice != NULL ? rule->advice : refusal->message;
	long long ahead = refusal->clock_ahead;
	int used = snprintf(out, size, "HTTP %d%s%s", refusal->status, refusal->code[0] != '\0' ? " " : "", refusal->code);

	if (used < 0 || (size_t) used >= size)
		return;
	out += used;
	size -= (size_t) used;
	if (is_skewed(refusal) && llabs(ahead) > TMS_S3_CLOCK_TOLERANCE)
		snprintf(out, size, ": the clock of this machine is %lld minutes %s the store's", llabs(ahead) / 60,
				 ahead > 0 ? "ahead of" : "behind");
	else if (refusal->region[0] != '\0')
		snprintf(out, size, ": the bucket is in region %s: set region%s%s", refusal->region,
				 refusal->endpoint[0] != '\0' ? ", and url to " : "", refusal->endpoint);
	else if (refusal->endpoint[0] != '\0')
		snprintf(out, size, ": the bucket is at %s: set url", refusal->endpoint);
	else if (is_redirect(refusal))
		snprintf(out, size, ": redirects are not followed");
	else if (text[0] != '\0')
		snprintf(out, size, ": %s", text);
}
