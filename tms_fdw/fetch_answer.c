/*
 * One HTTP answer as it comes in. Memory is taken with MCXT_ALLOC_NO_OOM alone, so that nothing here leaves libcurl's
 * frames by way of an error.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "tms_ext/compat.h"
#include "tms_fdw/fetch_answer.h"

#define MAX_HEADER_BYTES    (64 * 1024)
#define MAX_DISCARDED_BYTES (64 * 1024) /* body of another status: read, so that the connection stays usable */
#define UNKNOWN_BODY_BYTES  (256 * 1024) /* first buffer for a body whose size nobody told */

bool tms_answer_begin(TmsAnswer *answer, TmsFetch *fetch, MemoryContext context, const TmsFetchRequest *request)
{
	memset(answer, 0, sizeof(*answer));
	answer->fetch = fetch;
	answer->context = context;
	answer->wanted = request->wanted;
	answer->expected_bytes = request->expected_bytes;
	answer->max_bytes = Min(request->max_bytes, (int64) (MaxAllocSize - VARHDRSZ));
	answer->announced_bytes = -1;
	if (request->expected_sha256 != NULL)
	{
		answer->expects_sha256 = true;
		memcpy(answer->expected_sha256, request->expected_sha256, TMS_SHA256_SIZE);
	}
	if (request->s3_region != NULL)
		strlcpy(answer->s3_region, request->s3_region, sizeof(answer->s3_region));
	answer->digest = tms_sha256_new();
	return answer->digest != NULL;
}

void tms_answer_fail(TmsAnswer *answer, TmsFetchOutcome outcome, const char *format, ...)
{
	va_list arguments;

	if (answer->fetch->outcome != TMS_FETCH_RUNNING)
		return;
	answer->fetch->outcome = outcome;
	va_start(arguments, format);
	vsnprintf(answer->fetch->reason, sizeof(answer->fetch->reason), format, arguments);
	va_end(arguments);
}

/* The most bytes a body may have. */
static int64 allowed_bytes(const TmsAnswer *answer)
{
	return answer->expected_bytes >= 0 ? Min(answer->expected_bytes, answer->max_bytes) : answer->max_bytes;
}

void tms_answer_fail_by_size(TmsAnswer *answer, int64 bytes)
{
	int64 expected = answer->expected_bytes >= 0 ? answer->expected_bytes : answer->announced_bytes;

	if (answer->html)
		tms_answer_fail(answer, TMS_FETCH_WRONG_SIZE, "HTML page instead of an image");
	else if (answer->announced_bytes > allowed_bytes(answer))
		tms_answer_fail(answer, TMS_FETCH_WRONG_SIZE, INT64_FORMAT " bytes instead of %s" INT64_FORMAT,
						answer->announced_bytes, answer->expected_bytes >= 0 ? "" : "at most ", allowed_bytes(answer));
	else if (bytes < expected)
		tms_answer_fail(answer, TMS_FETCH_WRONG_SIZE, INT64_FORMAT " of " INT64_FORMAT " bytes", bytes, expected);
	else
		tms_answer_fail(answer, TMS_FETCH_WRONG_SIZE, "more than " INT64_FORMAT " bytes", allowed_bytes(answer));
}

/* Is this header line the field of that (lower-case) name? Returns where its value starts, or NULL. */
static const char *field_value(const char *line, size_t len, const char *name)
{
	size_t name_len = strlen(name);
	const char *end = line + len;

	if (len <= name_len || line[name_len] != ':' || pg_strncasecmp(line, name, name_len) != 0)
		return NULL;
	line += name_len + 1;
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	return line;
}

/* Decimal digits, also of a number that no int64 holds. */
static int64 parse_length(const char *digits, const char *end)
{
	int64 length = 0;

	if (digits == end || *digits < '0' || *digits > '9')
		return -1;
	for (; digits < end && *digits >= '0' && *digits <= '9'; digits++)
		length = length > PG_INT64_MAX / 10 - 1 ? PG_INT64_MAX / 10 : length * 10 + (*digits - '0');
	return length;
}

bool tms_answer_header(TmsAnswer *answer, int status, const char *line, size_t len)
{
	const char *value;

	answer->fetch->status = status;
	answer->header_bytes += len;
	if (answer->header_bytes > MAX_HEADER_BYTES)
	{
		tms_answer_fail(answer, TMS_FETCH_BROKEN, "header of more than %d bytes", MAX_HEADER_BYTES);
		return false;
	}
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		/* The final answer may follow an interim one. */
		answer->announced_bytes = -1;
		answer->html = false;
	}
	else if ((value = field_value(line, len, "content-length")) != NULL)
		answer->announced_bytes = parse_length(value, line + len);
	else if ((value = field_value(line, len, "content-type")) != NULL)
		answer->html = line + len - value >= 9 && pg_strncasecmp(value, "text/html", 9) == 0;
	return true;
}

/* Makes room for a body of so many bytes, which are allowed; false after noting why there is none. */
static bool reserve_body(TmsAnswer *answer, int64 needed)
{
	TmsFetch *fetch = answer->fetch;
	int64 capacity = answer->expected_bytes >= 0 ? allowed_bytes(answer) : answer->announced_bytes;
	bytea *body;

	if (fetch->body != NULL && needed <= answer->capacity)
		return true;
	if (capacity < needed)
		capacity = Min(answer->max_bytes, Max(needed, Max(2 * answer->capacity, UNKNOWN_BODY_BYTES)));
	body = MemoryContextAllocExtended(answer->context, VARHDRSZ + capacity, MCXT_ALLOC_NO_OOM);
	if (body == NULL)
	{
		tms_answer_fail(answer, TMS_FETCH_NO_MEMORY, "out of memory");
		return false;
	}
	if (fetch->body != NULL)
	{
		memcpy(VARDATA(body), VARDATA(fetch->body), fetch->bytes);
		pfree(fetch->body);
	}
	fetch->body = body;
	answer->capacity = capacity;
	return true;
}

/* Keeps len more bytes of body, if it is wanted; false after noting why not. */
static bool keep_body(TmsAnswer *answer, const char *data, size_t len)
{
	int64 needed = answer->fetch->bytes + (int64) len;

	if (needed > allowed_bytes(answer))
	{
		tms_answer_fail_by_size(answer, needed);
		return false;
	}
	if (answer->wanted != TMS_WANTED_BODY)
		return true;
	if (!reserve_body(answer, needed))
		return false;
	memcpy(VARDATA(answer->fetch->body) + answer->fetch->bytes, data, len);
	return true;
}

/* The first bytes of a body: do they begin like a page? */
static bool begins_like_html(const char *data, size_t len)
{
	while (len > 0 && (*data == ' ' || *data == '\t' || *data == '\r' || *data == '\n'))
		data++, len--;
	return len > 0 && *data == '<';
}

/* Keeps the beginning of an S3 store's refusal. Without memory for it the reason is shorter, nothing else. */
static void keep_refusal(TmsAnswer *answer, const char *data, size_t len)
{
	int64 kept = answer->fetch->bytes;

	if (answer->s3_region[0] == '\0' || kept >= TMS_S3_ERROR_BODY_SIZE)
		return;
	if (answer->refusal == NULL)
		answer->refusal = MemoryContextAllocExtended(answer->context, TMS_S3_ERROR_BODY_SIZE, MCXT_ALLOC_NO_OOM);
	if (answer->refusal != NULL)
		memcpy(answer->refusal + kept, data, Min(len, (size_t) (TMS_S3_ERROR_BODY_SIZE - kept)));
}

/* What the refusal of an S3 store means. */
static void fail_by_s3(TmsAnswer *answer)
{
	TmsFetch *fetch = answer->fetch;
	size_t kept = answer->refusal == NULL ? 0 : (size_t) Min(fetch->bytes, (int64) TMS_S3_ERROR_BODY_SIZE);
	TmsS3Refusal refusal;
	char reason[TMS_FETCH_REASON_SIZE];

	tms_s3_refusal_read(&refusal, fetch->status, answer->refusal, kept, answer->s3_region, Max(fetch->date, 0),
						(int64) time(NULL));
	tms_s3_refusal_explain(&refusal, reason, sizeof(reason));
	tms_answer_fail(answer, TMS_FETCH_STATUS, "%s", reason);
}

bool tms_answer_body(TmsAnswer *answer, const char *data, size_t len)
{
	TmsFetch *fetch = answer->fetch;

	if (fetch->status != 200)
	{
		keep_refusal(answer, data, len);
		fetch->bytes += len;
		return fetch->bytes <= MAX_DISCARDED_BYTES;
	}
	if (fetch->bytes == 0)
	{
		answer->html = answer->html || begins_like_html(data, len);
		if (answer->announced_bytes > allowed_bytes(answer))
			tms_answer_fail_by_size(answer, answer->announced_bytes);
	}
	if (fetch->outcome != TMS_FETCH_RUNNING || !keep_body(answer, data, len))
		return false;
	fetch->bytes += len;
	if (!tms_sha256_update(answer->digest, data, len))
		tms_answer_fail(answer, TMS_FETCH_NO_MEMORY, "SHA-256 could not be computed");
	return fetch->outcome == TMS_FETCH_RUNNING;
}

/* An answer to HEAD, which has no body: the announced size is all it tells. */
static void judge_head(TmsAnswer *answer)
{
	if (answer->expected_bytes >= 0 && answer->announced_bytes >= 0 &&
		answer->announced_bytes != answer->expected_bytes)
		tms_answer_fail_by_size(answer, answer->announced_bytes);
	else
		answer->fetch->outcome = TMS_FETCH_OK;
}

/* A complete body. */
static void judge_body(TmsAnswer *answer)
{
	TmsFetch *fetch = answer->fetch;
	uint8 sha256[TMS_SHA256_SIZE];

	if (answer->expected_bytes >= 0 && fetch->bytes != answer->expected_bytes)
		tms_answer_fail_by_size(answer, fetch->bytes);
	else if (!tms_sha256_final(answer->digest, sha256))
		tms_answer_fail(answer, TMS_FETCH_NO_MEMORY, "SHA-256 could not be computed");
	else if (answer->expects_sha256 && memcmp(sha256, answer->expected_sha256, TMS_SHA256_SIZE) != 0)
		tms_answer_fail(answer, TMS_FETCH_WRONG_DIGEST,
						answer->html ? "HTML page instead of an image" : "wrong digest");
	else if (answer->wanted != TMS_WANTED_BODY)
		fetch->outcome = TMS_FETCH_OK;
	else if (reserve_body(answer, fetch->bytes))
	{
		SET_VARSIZE(fetch->body, VARHDRSZ + fetch->bytes);
		fetch->outcome = TMS_FETCH_OK;
	}
}

void tms_answer_judge(TmsAnswer *answer, bool complete)
{
	TmsFetch *fetch = answer->fetch;

	if (fetch->status > 200 && answer->s3_region[0] != '\0')
		fail_by_s3(answer);
	else if (fetch->status >= 300 && fetch->status < 400)
		tms_answer_fail(answer, TMS_FETCH_STATUS, "HTTP %d, redirect refused", fetch->status);
	else if (fetch->status > 200)
		tms_answer_fail(answer, TMS_FETCH_STATUS, "HTTP %d", fetch->status);
	if (fetch->outcome != TMS_FETCH_RUNNING || !complete)
		return;
	if (answer->wanted == TMS_WANTED_HEAD)
		judge_head(answer);
	else
		judge_body(answer);
}

void tms_answer_end(TmsAnswer *answer)
{
	tms_sha256_free(answer->digest);
	answer->digest = NULL;
	if (answer->refusal != NULL)
		pfree(answer->refusal);
	answer->refusal = NULL;
	if (answer->fetch->outcome != TMS_FETCH_OK && answer->fetch->body != NULL)
	{
		pfree(answer->fetch->body);
		answer->fetch->body = NULL;
	}
}
