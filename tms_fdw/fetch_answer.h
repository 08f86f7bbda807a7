/*
 * One HTTP answer as it comes in: its status, its body in a palloc'd buffer with the digest computed on the way, and the
 * judgment. Knows nothing of libcurl; everything here is called from its callbacks and raises no error.
 */
#ifndef TMS_FETCH_ANSWER_H
#define TMS_FETCH_ANSWER_H

#include "postgres.h"

#include "common/s3.h"
#include "common/sha256.h"
#include "tms_fdw/fetch.h"

typedef struct TmsAnswer
{
	TmsFetch *fetch; /* where outcome, reason, body, status and bytes go */
	MemoryContext context; /* of the body */
	TmsSha256 *digest;
	TmsFetchWanted wanted;
	bool expects_sha256;
	uint8 expected_sha256[TMS_SHA256_SIZE];
	int64 expected_bytes; /* -1: any size */
	int64 max_bytes;
	int64 announced_bytes; /* Content-Length; -1: none */
	int64 header_bytes; /* 0: no answer yet */
	int64 capacity; /* of the body's buffer, without its varlena header */
	char s3_region[72]; /* of the store, when it is an S3 store; else "" */
	char *refusal; /* the beginning of an S3 store's refusal; NULL: none */
	bool html; /* what was sent looks like a page for people */
} TmsAnswer;

/* Begins to wait for the answer to a request; false when out of memory. End with tms_answer_end, also then. */
extern bool tms_answer_begin(TmsAnswer *answer, TmsFetch *fetch, MemoryContext context, const TmsFetchRequest *request);

/* Takes one line of the header, or a piece of the body; false once the answer has failed and is not worth reading. */
extern bool tms_answer_header(TmsAnswer *answer, int status, const char *line, size_t len);
extern bool tms_answer_body(TmsAnswer *answer, const char *data, size_t len);

/* Notes a failure unless there is one already: what comes later is only its consequence. */
extern void tms_answer_fail(TmsAnswer *answer, TmsFetchOutcome outcome, const char *format, ...)
	pg_attribute_printf(3, 4);

/* The body has, or would have, this many bytes, which is not what it should have: notes the failure. */
extern void tms_answer_fail_by_size(TmsAnswer *answer, int64 bytes);

/* The exchange ended, `complete` or broken off: gives it its outcome if it can; a broken one with status 200 has none yet. */
extern void tms_answer_judge(TmsAnswer *answer, bool complete);

/* Frees what is not the result's; the body of a failure too. */
extern void tms_answer_end(TmsAnswer *answer);

#endif
