/*
 * What a store's answer to one attempt means: the judgment of both kinds of store, without libcurl.
 */
#ifndef AGENT_UPLOAD_ANSWER_H
#define AGENT_UPLOAD_ANSWER_H

#include "../common/s3.h"
#include "md5.h"
#include "upload_request.h"

/* An answer, with what else is known of the attempt. Texts may be NULL where the answer has none. */
typedef struct UploadAnswer
{
	UploadMethod method;
	bool s3;
	const char *region; /* of an S3 store */
	long status;
	int64_t length; /* of the object by a HEAD's answer; -1: not told */
	const char *content_sha256; /* header X-Content-SHA256 */
	const char *etag;
	bool etag_is_md5; /* unless the store encrypts with keys of somebody else */
	int64_t time; /* the store's clock, Unix seconds; 0: not told */
	const char *body; /* the beginning of an error's */
	size_t body_len;
	int64_t received; /* bytes that a GET has brought, as far as it was read */
	const uint8_t *sha256; /* of these, when they are as many as there should be */
	const uint8_t *md5; /* of what a PUT has sent */
} UploadAnswer;

/* Fills in the result's outcome, reason, digest_known, etag and store_time. */
extern void upload_answer_judge(const UploadAnswer *answer, const UploadObject *object, UploadResult *result);

/* "PUT", "HEAD", "GET". */
extern const char *upload_method_name(UploadMethod method);

/* Sets a result's reason: a text that may come from outside, made fit for a log line. */
extern void upload_answer_reason(UploadResult *result, const char *text);

#endif
