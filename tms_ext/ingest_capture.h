/*
 * tms.capture as ingest reads and writes it: as the table's owner, inside SPI.
 */
#ifndef TMS_INGEST_CAPTURE_H
#define TMS_INGEST_CAPTURE_H

#include "postgres.h"

#include "tms_ext/ingest_ledger.h"
#include "tms_ext/ingest_rows.h"

/* A row that is in tms.capture. */
typedef struct TmsStoredCapture
{
	bool found;
	text *path; /* or NULL */
	bytea *sha256; /* or NULL */
} TmsStoredCapture;

/* Rows of one ledger that are in tms.capture, by seq. */
typedef struct TmsStoredCaptures
{
	TmsSeqRange seqs; /* what was looked for; from > to: nothing */
	TmsStoredCapture *captures; /* one for each of seqs */
} TmsStoredCaptures;

/* Looks for these seqs on the days that tms.ledger_day names. What it returns lives as long as the SPI connection. */
extern TmsStoredCaptures tms_ingest_stored(int32 ledger_no, TmsSeqRange seqs);

/* The stored row of a seq; NULL when there is none or it was not looked for. */
extern const TmsStoredCapture *tms_ingest_stored_get(const TmsStoredCaptures *stored, int64 seq);

/*
 * Inserts the rows picked[0 .. count - 1] (ascending; row i is seq first_seq + i), with one statement, after making days
 * that are missing; notes their days in tms.ledger_day.
 */
extern void tms_ingest_insert(const TmsIngestRows *rows, const int *picked, int count, int64 first_seq, int32 ledger_no,
							  int32 device_id);

#endif
