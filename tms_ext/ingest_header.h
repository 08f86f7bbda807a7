/*
 * The header of a call of tms.ingest: what a ledger says of itself (DESIGN 6a), read from JSON and checked.
 */
#ifndef TMS_INGEST_HEADER_H
#define TMS_INGEST_HEADER_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "common/capture_id.h"
#include "common/sha256.h"

typedef struct TmsIngestHeader
{
	char *device;
	char *token; /* secret */
	TmsUuid ledger;
	bool has_prev_sha256;
	uint8 prev_sha256[TMS_SHA256_SIZE]; /* digest of the capture first_seq - 1 */
	int64 oldest_seq;
	int64 last_seq;
	int64 first_seq;
	int64 uploaded_seq;
	int64 uploaded_max;
	int64 cleaned_seq;
	int64 report_no;
	int64 request_seen;
	Jsonb *status; /* an object, or NULL */
} TmsIngestHeader;

/*
 * Reads the header of a call that brings `rows` rows; memory is the current context's. Error 22023 that names the field
 * which is missing, of the wrong type or out of range, and never shows a value.
 */
extern void tms_ingest_header_read(Jsonb *json, int rows, TmsIngestHeader *header);

#endif
