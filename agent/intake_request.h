/*
 * One POST /v1/captures as it comes in: the body as a photograph, or a form with the photograph as one part. Knows nothing
 * of the connection but its values; the server (intake_http) feeds it and sends its answer.
 */
#ifndef AGENT_INTAKE_REQUEST_H
#define AGENT_INTAKE_REQUEST_H

#include <microhttpd.h>

#include "service.h"

typedef struct IntakeRequest IntakeRequest;

/* What the sender is told. */
typedef struct IntakeAnswer
{
	unsigned status; /* HTTP */
	char error[RECORD_ERROR_SIZE]; /* unless status is 201 */
	bool repeated; /* the answer to an earlier request with the same Idempotency-Key */
	LedgerEntry entry; /* when status is 201: ledger, seq, path, sha256 */
} IntakeAnswer;

/*
 * Begins a request whose head is there. NULL: it is refused now, and *answer says why (too large, disk full, a malformed
 * query); else a refusal comes with intake_request_end, when the body was read. The caller frees with intake_request_free.
 */
extern IntakeRequest *intake_request_begin(const ServiceContext *context, struct MHD_Connection *connection,
										   IntakeAnswer *answer);

/*
 * Reads the body of a request that was refused by its head, for intake_request_data only. NULL: it is better answered now. The
 * caller frees with intake_request_free.
 */
extern IntakeRequest *intake_request_refused(const ServiceContext *context, struct MHD_Connection *connection);

/* Takes a piece of the body. False: the sender goes on against all reason, and the connection is better closed. */
extern bool intake_request_data(IntakeRequest *request, const char *data, size_t len);

/* The body is there: takes the capture, or says why not. */
extern void intake_request_end(IntakeRequest *request, IntakeAnswer *answer);

/* Frees the request and what it did not take. NULL is allowed. */
extern void intake_request_free(IntakeRequest *request);

#endif
