/*
 * AWS Signature Version 4, for requests whose paths are taken as they are, as S3 does: nothing is normalized, neither "//"
 * nor "." and "..", and every byte but A-Z a-z 0-9 - . _ ~ (and "/" in paths) is percent-encoded once.
 *
 * Everything is written to the caller's buffers; nothing is allocated, and what is derived from the secret is wiped.
 */
#ifndef TMS_SIGV4_H
#define TMS_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TMS_SIGV4_SECRET_MAX  1024 /* bytes of a secret access key */
#define TMS_SIGV4_FIELDS_MAX  16 /* headers or query parameters of a request, those of a presigned URL included */
#define TMS_SIGV4_TIME_SIZE   17 /* "20130524T000000Z" and the final NUL */
#define TMS_SIGV4_VALUE_SIZE  1024 /* of an Authorization header's value */
#define TMS_SIGV4_EXPIRES_MAX INT64_C(604800) /* a presigned URL is valid for seven days at most; seconds */

/* The payload of a request whose body is not hashed, as of every presigned one. */
#define TMS_SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"

typedef struct TmsSigv4Credentials
{
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* NULL or "": none */
	const char *region;
	const char *service; /* "s3" */
} TmsSigv4Credentials;

/* A header or a query parameter. */
typedef struct TmsSigv4Field
{
	const char *name;
	const char *value;
} TmsSigv4Field;

typedef struct TmsSigv4Request
{
	const char *method;
	const char *path; /* decoded, from its first slash on */
	const TmsSigv4Field *query; /* decoded, in any order */
	int query_count;
	const TmsSigv4Field *headers; /* all are signed, "host" among them; names in lower case, each once, in any order */
	int header_count;
	const char *payload; /* hexadecimal SHA-256 of the body, or TMS_SIGV4_UNSIGNED */
	int64_t time; /* Unix seconds */
} TmsSigv4Request;

/* Writes a time as the header x-amz-date has it. False outside the years 0 to 9999. */
extern bool tms_sigv4_time(int64_t time, char out[TMS_SIGV4_TIME_SIZE]);

/* Writes what a request line has for path and query, in the form that is signed. False when it does not fit. */
extern bool tms_sigv4_target(const TmsSigv4Request *request, char *out, size_t size);

/*
 * Writes the value of the header Authorization. A session token, and the payload for S3, must be among the headers. False
 * when a text is too long, there are too many fields, or OpenSSL fails.
 */
extern bool tms_sigv4_authorization(const TmsSigv4Credentials *credentials, const TmsSigv4Request *request,
									char out[TMS_SIGV4_VALUE_SIZE]);

/*
 * Writes path and query of a presigned URL that is valid for `expires` seconds from the request's time. The payload is that
 * of the request. False as above, and for an `expires` outside 1 to TMS_SIGV4_EXPIRES_MAX.
 */
extern bool tms_sigv4_presign(const TmsSigv4Credentials *credentials, const TmsSigv4Request *request, int64_t expires,
							  char *out, size_t size);

#endif
