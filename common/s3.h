/*
 * What both programs say to an S3 store and hear from it: signed requests for objects below a base URL, and what the XML of
 * a refusal means in one line. Path-style URLs alone: the first part of the base URL's path is the bucket.
 */
#ifndef TMS_S3_H
#define TMS_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigv4.h"

#define TMS_S3_URL_SIZE  4096
#define TMS_S3_LINE_SIZE 4096 /* of a header line; a session token may have thousands of bytes */

#define TMS_S3_DEFAULT_REGION "us-east-1"

/* What is asked of a store. */
typedef struct TmsS3Request
{
	const char *method;
	const char *base_url; /* http or https, host, perhaps port and path; percent-encoded where it needs to be */
	const char *key; /* not encoded; NULL: the base URL itself */
	const TmsSigv4Field *query; /* not encoded, in any order */
	int query_count;
	const char *payload; /* hexadecimal SHA-256 of the body, or TMS_SIGV4_UNSIGNED */
	int64_t time; /* Unix seconds, now */
} TmsS3Request;

/* The hexadecimal SHA-256 of no bytes at all. */
#define TMS_S3_NO_PAYLOAD "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* Takes one header line, "Name: value"; false: out of memory. It may hold a session token and is not to be logged. */
typedef bool TmsS3AddHeader(void *argument, const char *line);

/*
 * Makes the URL of a request and hands over the header lines that sign it, Host among them; the credentials' service is
 * not looked at. False when a text is too long, the URL's path is not properly encoded, or add() says so.
 */
extern bool tms_s3_sign(const TmsSigv4Credentials *credentials, const TmsS3Request *request, char url[TMS_S3_URL_SIZE],
						TmsS3AddHeader *add, void *argument);

/* Makes the URL of a request that nobody signs; false as above. */
extern bool tms_s3_url(const TmsS3Request *request, char url[TMS_S3_URL_SIZE]);

/* Makes a URL that whoever has it can use for `expires` seconds (1 to TMS_SIGV4_EXPIRES_MAX); false as above. */
extern bool tms_s3_presign(const TmsSigv4Credentials *credentials, const TmsS3Request *request, int64_t expires,
						   char url[TMS_S3_URL_SIZE]);

/*
 * Copies what stands in the first XML element of that name, without attributes, as one line of printable ASCII, cut to size.
 * False, and `out` left alone, when there is none. The body may be anything.
 */
extern bool tms_s3_element(const char *body, size_t len, const char *name, char *out, size_t size);

/* --- refusals --- */

/* So much of an error's body is worth keeping; what comes behind is not looked at. */
#define TMS_S3_ERROR_BODY_SIZE 2048

/* A clock that is further off than this is the reason of a refusal; seconds, as S3 stores have it. */
#define TMS_S3_CLOCK_TOLERANCE 900

/* What a store told with an answer that is no success. Texts are printable ASCII, cut to their size, "" when absent. */
typedef struct TmsS3Refusal
{
	int status;
	char code[48]; /* such as "NoSuchBucket" */
	char message[128];
	char region[40]; /* where the bucket is, when not in the region that was asked */
	char endpoint[96]; /* likewise */
	int64_t clock_ahead; /* seconds by which this machine's clock is ahead of the store's; 0 when unknown */
} TmsS3Refusal;

/*
 * Reads a refusal from the beginning of its body, which may be anything; `region` is the one that was asked; times of store
 * (0: unknown) and machine are Unix seconds.
 */
extern void tms_s3_refusal_read(TmsS3Refusal *refusal, int status, const char *body, size_t len, const char *region,
								int64_t store_time, int64_t now);

/* Writes it as a phrase such as "HTTP 404 NoSuchBucket: there is no such bucket; make it, or correct url"; cut to size. */
extern void tms_s3_refusal_explain(const TmsS3Refusal *refusal, char *out, size_t size);

typedef enum TmsS3Problem
{
	TMS_S3_ABSENT, /* the object is not there */
	TMS_S3_EXISTS, /* an object of this name is there already */
	TMS_S3_NOT_SUPPORTED, /* a header of the request that the store does not have */
	TMS_S3_DAMAGED, /* the bytes were not those of the digest when they arrived */
	TMS_S3_BUSY, /* passes by itself: slow down, time-outs, internal errors */
	TMS_S3_MISCONFIGURED, /* key, secret, clock, bucket, region, quota or policy: somebody has to do something */
	TMS_S3_REFUSED, /* anything else */
} TmsS3Problem;

/* What has to be done about it. */
extern TmsS3Problem tms_s3_refusal_problem(const TmsS3Refusal *refusal);

#endif
