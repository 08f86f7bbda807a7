/*
 * AWS Signature Version 4.
 *
 *   canonical request = method \n path \n query \n "name:value\n" of each header \n names \n payload
 *   text to sign      = "AWS4-HMAC-SHA256" \n time \n scope \n hex(SHA-256(canonical request))
 *   key               = HMAC(HMAC(HMAC(HMAC("AWS4" secret, day), region), service), "aws4_request")
 *   signature         = hex(HMAC(key, text to sign))
 */
#include "sigv4.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sha256.h"

#define ALGORITHM      "AWS4-HMAC-SHA256"
#define REQUEST_SIZE   16384 /* of a canonical request; a session token may have thousands of bytes */
#define ENCODED_SIZE   8192 /* of all encoded names and values of a query */
#define NAMES_SIZE     512 /* of the list of signed headers */
#define SCOPE_SIZE     160
#define DAY_SIZE       9
#define PRESIGN_FIELDS 6 /* that a presigned URL has besides its signature */

/* A text that grows in a buffer of fixed size; once something did not fit, `full` stays. */
typedef struct Text
{
	char *data;
	size_t size;
	size_t len;
	bool full;
} Text;

static Text text_begin(char *buffer, size_t size)
{
	buffer[0] = '\0';
	return (Text){.data = buffer, .size = size};
}

static void text_add_char(Text *text, char c)
{
	if (text->len + 1 >= text->size)
	{
		text->full = true;
		return;
	}
	text->data[text->len++] = c;
	text->data[text->len] = '\0';
}

static void text_add(Text *text, const char *more)
{
	while (*more != '\0')
		text_add_char(text, *more++);
}

static bool is_unreserved(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		   c == '_' || c == '~';
}

static void text_add_encoded(Text *text, const char *raw, bool keep_slashes)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *raw != '\0'; raw++)
	{
		if (is_unreserved(*raw) || (keep_slashes && *raw == '/'))
			text_add_char(text, *raw);
		else
		{
			text_add_char(text, '%');
			text_add_char(text, digits[(unsigned char) *raw >> 4]);
			text_add_char(text, digits[(unsigned char) *raw & 15]);
		}
	}
}

/* --- parts of the canonical request --- */

static int field_compare(const TmsSigv4Field *a, const TmsSigv4Field *b)
{
	int order = strcmp(a->name, b->name);

	return order != 0 ? order : strcmp(a->value, b->value);
}

/* A handful of fields: sorted by insertion. */
static void sort_fields(TmsSigv4Field *fields, int count)
{
	for (int i = 1; i < count; i++)
	{
		TmsSigv4Field field = fields[i];
		int at = i;

		for (; at > 0 && field_compare(&field, &fields[at - 1]) < 0; at--)
			fields[at] = fields[at - 1];
		fields[at] = field;
	}
}

/* Copies fields to an array of the caller's, sorted; false when there are too many. */
static bool copy_sorted(const TmsSigv4Field *from, int count, TmsSigv4Field to[TMS_SIGV4_FIELDS_MAX])
{
	if (count < 0 || count > TMS_SIGV4_FIELDS_MAX)
		return false;
	for (int i = 0; i < count; i++)
		to[i] = from[i];
	sort_fields(to, count);
	return true;
}

/* Adds an encoded name or value with a NUL behind it; where it begins, or NULL when it does not fit. */
static const char *encode(Text *text, const char *raw)
{
	const char *start = text->data + text->len;

	text_add_encoded(text, raw, false);
	if (text->full || text->len + 1 >= text->size)
		return NULL;
	text->data[++text->len] = '\0';
	return start;
}

/* The order is that of the encoded names and values, so they are encoded first. */
static bool add_query(Text *text, const TmsSigv4Request *request)
{
	TmsSigv4Field fields[TMS_SIGV4_FIELDS_MAX];
	char buffer[ENCODED_SIZE];
	Text encoded = text_begin(buffer, sizeof(buffer));

	if (!copy_sorted(request->query, request->query_count, fields))
		return false;
	for (int i = 0; i < request->query_count; i++)
	{
		fields[i].name = encode(&encoded, fields[i].name);
		fields[i].value = fields[i].name != NULL ? encode(&encoded, fields[i].value) : NULL;
		if (fields[i].value == NULL)
			return false;
	}
	sort_fields(fields, request->query_count);
	for (int i = 0; i < request->query_count; i++)
	{
		if (i > 0)
			text_add_char(text, '&');
		text_add(text, fields[i].name);
		text_add_char(text, '=');
		text_add(text, fields[i].value);
	}
	return !text->full;
}

/* A header's value without spaces around it, and with one in place of several. */
static void add_header_value(Text *text, const char *value)
{
	bool space = false;

	while (*value == ' ')
		value++;
	for (; *value != '\0'; value++)
	{
		if (*value == ' ')
		{
			space = true;
			continue;
		}
		if (space)
			text_add_char(text, ' ');
		space = false;
		text_add_char(text, *value);
	}
}

/* The list of the signed headers' names, "host;x-amz-date". */
static bool header_names(const TmsSigv4Request *request, char *out, size_t size)
{
	TmsSigv4Field fields[TMS_SIGV4_FIELDS_MAX];
	Text text = text_begin(out, size);

	if (!copy_sorted(request->headers, request->header_count, fields))
		return false;
	for (int i = 0; i < request->header_count; i++)
	{
		if (i > 0)
			text_add_char(&text, ';');
		text_add(&text, fields[i].name);
	}
	return !text.full;
}

static bool canonical_request(const TmsSigv4Request *request, const char *names, char *out, size_t size)
{
	TmsSigv4Field fields[TMS_SIGV4_FIELDS_MAX];
	Text text = text_begin(out, size);

	text_add(&text, request->method);
	text_add_char(&text, '\n');
	text_add_encoded(&text, request->path, true);
	text_add_char(&text, '\n');
	if (!add_query(&text, request) || !copy_sorted(request->headers, request->header_count, fields))
		return false;
	text_add_char(&text, '\n');
	for (int i = 0; i < request->header_count; i++)
	{
		text_add(&text, fields[i].name);
		text_add_char(&text, ':');
		add_header_value(&text, fields[i].value);
		text_add_char(&text, '\n');
	}
	text_add_char(&text, '\n');
	text_add(&text, names);
	text_add_char(&text, '\n');
	text_add(&text, request->payload);
	return !text.full;
}

/* --- the signature --- */

static bool hmac_text(const uint8_t *key, size_t key_len, const char *text, uint8_t out[TMS_SHA256_SIZE])
{
	return tms_hmac_sha256(key, key_len, text, strlen(text), out);
}

/* Derives the key of a day, region and service, and signs with it. */
static bool sign_text(const TmsSigv4Credentials *credentials, const char *day, const char *text,
					  char out[TMS_SHA256_HEX_SIZE])
{
	char secret[sizeof("AWS4") + TMS_SIGV4_SECRET_MAX];
	uint8_t key[TMS_SHA256_SIZE], next[TMS_SHA256_SIZE];
	int len = snprintf(secret, sizeof(secret), "AWS4%s", credentials->secret_access_key);
	bool ok = len >= 0 && (size_t) len < sizeof(secret) && hmac_text((uint8_t *) secret, (size_t) len, day, key) &&
			  hmac_text(key, sizeof(key), credentials->region, next) &&
			  hmac_text(next, sizeof(next), credentials->service, key) &&
			  hmac_text(key, sizeof(key), "aws4_request", next) && hmac_text(next, sizeof(next), text, key);

	if (ok)
		tms_sha256_hex(key, out);
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(next, sizeof(next));
	return ok;
}

bool tms_sigv4_time(int64_t seconds, char out[TMS_SIGV4_TIME_SIZE])
{
	time_t time = (time_t) seconds;
	struct tm parts;

	return gmtime_r(&time, &parts) != NULL && parts.tm_year >= -1900 && parts.tm_year <= 8099 &&
		   strftime(out, TMS_SIGV4_TIME_SIZE, "%Y%m%dT%H%M%SZ", &parts) == TMS_SIGV4_TIME_SIZE - 1;
}

/* Writes "<day>/<region>/<service>/aws4_request". */
static bool make_scope(const TmsSigv4Credentials *credentials, const char *time, char out[SCOPE_SIZE])
{
	int len = snprintf(out, SCOPE_SIZE, "%.8s/%s/%s/aws4_request", time, credentials->region, credentials->service);

	return len >= 0 && len < SCOPE_SIZE;
}

/* Signs a request whose query, headers and list of their names are complete. */
static bool sign_request(const TmsSigv4Credentials *credentials, const TmsSigv4Request *request, const char *names,
						 const char *time, const char *scope, char out[TMS_SHA256_HEX_SIZE])
{
	char canonical[REQUEST_SIZE];
	char text[sizeof(ALGORITHM) + TMS_SIGV4_TIME_SIZE + SCOPE_SIZE + TMS_SHA256_HEX_SIZE];
	char day[DAY_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];
	uint8_t digest[TMS_SHA256_SIZE];

	if (!canonical_request(request, names, canonical, sizeof(canonical)) ||
		!tms_sha256(canonical, strlen(canonical), digest))
		return false;
	tms_sha256_hex(digest, hex);
	snprintf(text, sizeof(text), ALGORITHM "\n%s\n%s\n%s", time, scope, hex);
	snprintf(day, sizeof(day), "%.8s", time);
	return sign_text(credentials, day, text, out);
}

bool tms_sigv4_authorization(const TmsSigv4Credentials *credentials, const TmsSigv4Request *request,
							 char out[TMS_SIGV4_VALUE_SIZE])
{
	char time[TMS_SIGV4_TIME_SIZE];
	char scope[SCOPE_SIZE];
	char names[NAMES_SIZE];
	char signature[TMS_SHA256_HEX_SIZE];
	int len;

	if (!tms_sigv4_time(request->time, time) || !make_scope(credentials, time, scope) ||
		!header_names(request, names, sizeof(names)) ||
		!sign_request(credentials, request, names, time, scope, signature))
		return false;
	len = snprintf(out, TMS_SIGV4_VALUE_SIZE, ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
				   credentials->access_key_id, scope, names, signature);
	return len >= 0 && len < TMS_SIGV4_VALUE_SIZE;
}

bool tms_sigv4_target(const TmsSigv4Request *request, char *out, size_t size)
{
	Text text = text_begin(out, size);

	text_add_encoded(&text, request->path, true);
	if (request->query_count > 0)
		text_add_char(&text, '?');
	return add_query(&text, request) && !text.full;
}

bool tms_sigv4_presign(const TmsSigv4Credentials *credentials, const TmsSigv4Request *request, int64_t expires,
					   char *out, size_t size)
{
	TmsSigv4Request presigned = *request;
	TmsSigv4Field query[TMS_SIGV4_FIELDS_MAX];
	char time[TMS_SIGV4_TIME_SIZE];
	char scope[SCOPE_SIZE];
	char credential[TMS_SIGV4_VALUE_SIZE];
	char names[NAMES_SIZE];
	char seconds[24];
	char signature[TMS_SHA256_HEX_SIZE];
	const char *token = credentials->session_token;
	int count = request->query_count;
	size_t used;
	int len;

	if (expires < 1 || expires > TMS_SIGV4_EXPIRES_MAX || count > TMS_SIGV4_FIELDS_MAX - PRESIGN_FIELDS ||
		!copy_sorted(request->query, count, query) || !tms_sigv4_time(request->time, time) ||
		!make_scope(credentials, time, scope) || !header_names(request, names, sizeof(names)))
		return false;
	len = snprintf(credential, sizeof(credential), "%s/%s", credentials->access_key_id, scope);
	if (len < 0 || (size_t) len >= sizeof(credential))
		return false;
	snprintf(seconds, sizeof(seconds), "%" PRId64, expires);
	query[count++] = (TmsSigv4Field){"X-Amz-Algorithm", ALGORITHM};
	query[count++] = (TmsSigv4Field){"X-Amz-Credential", credential};
	query[count++] = (TmsSigv4Field){"X-Amz-Date", time};
	query[count++] = (TmsSigv4Field){"X-Amz-Expires", seconds};
	query[count++] = (TmsSigv4Field){"X-Amz-SignedHeaders", names};
	if (token != NULL && token[0] != '\0')
		query[count++] = (TmsSigv4Field){"X-Amz-Security-Token", token};
	presigned.query = query;
	presigned.query_count = count;
	if (!sign_request(credentials, &presigned, names, time, scope, signature) ||
		!tms_sigv4_target(&presigned, out, size))
		return false;
	used = strlen(out);
	len = snprintf(out + used, size - used, "&X-Amz-Signature=%s", signature);
	return len >= 0 && (size_t) len < size - used;
}
