/*
 * What a store's answer means; see upload_answer.h.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "upload_answer.h"

const char *upload_method_name(UploadMethod method)
{
	static const char *const names[] = {[UPLOAD_PUT] = "PUT", [UPLOAD_HEAD] = "HEAD", [UPLOAD_GET] = "GET"};

	return names[method];
}

void upload_answer_reason(UploadResult *result, const char *text)
{
	size_t i;

	for (i = 0; text[i] != '\0' && i < sizeof(result->reason) - 1; i++)
		result->reason[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	result->reason[i] = '\0';
}

/* A tag without its quotes and its length; NULL: none. */
static const char *unquoted(const char *tag, size_t *len)
{
	*len = tag != NULL ? strlen(tag) : 0;
	if (*len < 2 || tag[0] != '"' || tag[*len - 1] != '"')
		return tag;
	*len -= 2;
	return tag + 1;
}

/* The digest that the store tells of the object; false: none. An entity tag that is no SHA-256 says nothing. */
static bool told_digest(const UploadAnswer *answer, uint8_t digest[TMS_SHA256_SIZE])
{
	size_t len;
	const char *told = unquoted(answer->content_sha256 != NULL ? answer->content_sha256 : answer->etag, &len);

	return told != NULL && tms_sha256_parse(told, len, digest);
}

/* The MD5 that an S3 store tells of the object; false: none. */
static bool told_md5(const UploadAnswer *answer, uint8_t md5[MD5_SIZE])
{
	size_t len;
	const char *told = unquoted(answer->etag, &len);

	return answer->s3 && answer->etag_is_md5 && told != NULL && len == 2 * MD5_SIZE &&
		   tms_hex_parse(told, MD5_SIZE, md5);
}

/* An entity tag stands for the bytes only when it is a strong one. */
static void take_etag(const UploadAnswer *answer, UploadResult *result)
{
	const char *etag = answer->etag;

	if (etag == NULL || etag[0] != '"' || strlen(etag) >= sizeof(result->etag))
		return;
	for (const char *at = etag; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			return;
	strcpy(result->etag, etag);
}

/* --- success --- */

/* An object was taken: is it known to have the right bytes? */
static void judge_put(const UploadAnswer *answer, UploadResult *result)
{
	uint8_t md5[MD5_SIZE];

	result->outcome = UPLOAD_OK;
	if (answer->md5 == NULL || !told_md5(answer, md5))
		return;
	result->digest_known = memcmp(md5, answer->md5, sizeof(md5)) == 0;
	if (result->digest_known)
		take_etag(answer, result);
	else
	{
		result->outcome = UPLOAD_DIFFERENT;
		upload_answer_reason(result, "PUT: the store has kept other bytes than were sent");
	}
}

/* Is it the object? */
static void judge_head(const UploadAnswer *answer, const UploadObject *object, UploadResult *result)
{
	uint8_t digest[TMS_SHA256_SIZE];
	bool told = told_digest(answer, digest);

	result->outcome = UPLOAD_DIFFERENT;
	if (answer->length < 0)
		upload_answer_reason(result, "HEAD: the store does not tell the object's size");
	else if (answer->length != object->bytes)
		snprintf(result->reason, sizeof(result->reason), "HEAD: the store has %lld bytes instead of %lld",
				 (long long) answer->length, (long long) object->bytes);
	else if (told && memcmp(digest, object->sha256, sizeof(digest)) != 0)
		upload_answer_reason(result, "HEAD: the store has other bytes");
	else
	{
		result->outcome = UPLOAD_OK;
		result->digest_known = told;
		take_etag(answer, result);
	}
}

/* The object came back, to its end or until there was more than expected: are these the bytes? */
static void judge_get(const UploadAnswer *answer, const UploadObject *object, UploadResult *result)
{
	result->outcome = UPLOAD_DIFFERENT;
	if (answer->received != object->bytes)
		snprintf(result->reason, sizeof(result->reason), "GET: the store has %s bytes than %lld",
				 answer->received > object->bytes ? "more" : "fewer", (long long) object->bytes);
	else if (answer->sha256 == NULL || memcmp(answer->sha256, object->sha256, TMS_SHA256_SIZE) != 0)
		upload_answer_reason(result, "GET: the store has other bytes");
	else
	{
		result->outcome = UPLOAD_OK;
		result->digest_known = true;
		take_etag(answer, result);
	}
}

/* --- refusals --- */

/* Statuses that a store changes by itself: time-out, too early, too many requests; and all of 5xx. */
static bool status_is_passing(long status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

static void judge_http_refusal(const UploadAnswer *answer, UploadResult *result)
{
	snprintf(result->reason, sizeof(result->reason), "%s: HTTP status %ld%s", upload_method_name(answer->method),
			 answer->status, answer->status >= 300 && answer->status < 400 ? " (redirects are not followed)" : "");
	if (answer->method != UPLOAD_PUT && (answer->status == 404 || answer->status == 410))
		result->outcome = UPLOAD_ABSENT;
	else
		result->outcome = status_is_passing(answer->status) ? UPLOAD_BUSY : UPLOAD_REFUSED;
}

static void judge_s3_refusal(const UploadAnswer *answer, UploadResult *result)
{
	static const UploadOutcome outcomes[] = {
		[TMS_S3_ABSENT] = UPLOAD_ABSENT,
		[TMS_S3_EXISTS] = UPLOAD_EXISTS,
		[TMS_S3_NOT_SUPPORTED] = UPLOAD_REFUSED,
		[TMS_S3_DAMAGED] = UPLOAD_BUSY,
		[TMS_S3_BUSY] = UPLOAD_BUSY,
		[TMS_S3_MISCONFIGURED] = UPLOAD_MISCONFIGURED,
		[TMS_S3_REFUSED] = UPLOAD_REFUSED,
	};
	TmsS3Refusal refusal;
	char phrase[sizeof(result->reason) - 8];

	tms_s3_refusal_read(&refusal, (int) answer->status, answer->body, answer->body_len, answer->region, answer->time,
						clock_now() / CLOCK_SECOND);
	tms_s3_refusal_explain(&refusal, phrase, sizeof(phrase));
	snprintf(result->reason, sizeof(result->reason), "%s: %s", upload_method_name(answer->method), phrase);
	result->outcome = outcomes[tms_s3_refusal_problem(&refusal)];
	/* What is to be put there cannot be missing: the bucket is. */
	if (answer->method == UPLOAD_PUT && result->outcome == UPLOAD_ABSENT)
		result->outcome = UPLOAD_MISCONFIGURED;
}

void upload_answer_judge(const UploadAnswer *answer, const UploadObject *object, UploadResult *result)
{
	result->store_time = answer->time * CLOCK_SECOND;
	if (answer->status < 200 || answer->status >= 300)
	{
		if (answer->s3)
			judge_s3_refusal(answer, result);
		else
			judge_http_refusal(answer, result);
	}
	else if (answer->method == UPLOAD_PUT)
		judge_put(answer, result);
	else if (answer->method == UPLOAD_HEAD)
		judge_head(answer, object, result);
	else
		judge_get(answer, object, result);
}
