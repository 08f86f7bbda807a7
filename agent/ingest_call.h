/*
 * One call of tms.ingest, encoded for PQsendQueryParams: the header as JSON text, each column as a binary array. Knows no
 * libpq; the registrar and the benchmark send what it holds:
 *
 *   ingest_call_begin(&call);
 *   ingest_call_add(&call, &row); ...
 *   if (ingest_call_finish(&call, &header) == TMS_OK)
 *       PQsendQueryParams(conn, INGEST_CALL_SQL, INGEST_CALL_PARAMS, NULL, call.values, call.lengths, call.formats, 0);
 *
 * One IngestCall is used by one thread at a time and keeps its memory from call to call.
 */
#ifndef AGENT_INGEST_CALL_H
#define AGENT_INGEST_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/capture_id.h"
#include "../common/sha256.h"
#include "../common/status.h"
#include "record.h"

#define INGEST_CALL_COLUMNS 13
#define INGEST_CALL_PARAMS  (1 + INGEST_CALL_COLUMNS)

/*
 * The statement, and the columns of its one row, all in text format. cleaning_period is in whole microseconds; the three of
 * the upload request are NULL when there is none; since and until are what tms_time_parse reads.
 */
#define INGEST_CALL_SQL                                                                                          \
	"SELECT accepted_seq, fork_from, (extract(epoch FROM cleaning_period) * 1000000)::bigint,"                   \
	" upload_request->>'id', upload_request->>'since', upload_request->>'until'"                                 \
	" FROM tms.ingest($1::jsonb, $2::timestamptz[], $3::text[], $4::int[], $5::bytea[], $6::text[], $7::text[]," \
	" $8::text[], $9::text[], $10::smallint[], $11::smallint[], $12::text[], $13::uuid[], $14::jsonb[])"

typedef enum IngestAnswer
{
	INGEST_ANSWER_ACCEPTED_SEQ,
	INGEST_ANSWER_FORK_FROM, /* NULL: no fork */
	INGEST_ANSWER_CLEANING_PERIOD,
	INGEST_ANSWER_REQUEST_ID,
	INGEST_ANSWER_REQUEST_SINCE,
	INGEST_ANSWER_REQUEST_UNTIL,
} IngestAnswer;

/* What one ledger reports of itself (DESIGN 6a). */
typedef struct IngestHeader
{
	const char *device;
	const char *token; /* secret */
	TmsUuid ledger;
	int64_t oldest_seq;
	int64_t last_seq;
	int64_t first_seq; /* of the first row; without rows: where the next one would go on */
	const uint8_t *prev_sha256; /* digest of the capture first_seq - 1, or NULL: there is none or it is not known */
	int64_t uploaded_seq;
	int64_t uploaded_max;
	int64_t cleaned_seq;
	int64_t report_no;
	int64_t request_seen;
	const char *status; /* a JSON object, or NULL: the path center keeps the last one */
} IngestHeader;

/* One capture; path NULL: the ledger no longer holds this seq, and nothing else is looked at. */
typedef struct IngestRow
{
	const char *path;
	int64_t image_bytes;
	const uint8_t *sha256; /* 32 bytes */
	const Record *record; /* captured_at is set */
} IngestRow;

/* A growing array of bytes. */
typedef struct IngestBuffer
{
	char *data;
	size_t len;
	size_t size;
} IngestBuffer;

typedef struct IngestCall
{
	/* for PQsendQueryParams, valid from ingest_call_finish to the next ingest_call_begin */
	const char *values[INGEST_CALL_PARAMS];
	int lengths[INGEST_CALL_PARAMS];
	int formats[INGEST_CALL_PARAMS];

	int rows; /* so far; tms.ingest takes at most 10,000 */
	size_t bytes; /* of all parameters so far, so that a caller can bound a call by its size */

	/* inside */
	bool failed; /* out of memory since ingest_call_begin */
	IngestBuffer header;
	IngestBuffer columns[INGEST_CALL_COLUMNS];
	bool has_value[INGEST_CALL_COLUMNS]; /* a column of NULLs alone is sent as one NULL */
	bool has_null[INGEST_CALL_COLUMNS];
} IngestCall;

/* Makes an empty call; ingest_call_free releases what it grew to. */
extern void ingest_call_init(IngestCall *call);
extern void ingest_call_free(IngestCall *call);

/* Forgets rows and header, keeps the memory. */
extern void ingest_call_begin(IngestCall *call);

/* Adds the next row; the data is copied. */
extern void ingest_call_add(IngestCall *call, const IngestRow *row);

/* Writes the header and fills values, lengths and formats. Without rows it is a heartbeat. TMS_MEMORY. */
extern TMS_CHECKED TmsStatus ingest_call_finish(IngestCall *call, const IngestHeader *header);

#endif
