/*
 * The rows of devices, ledgers and gaps that ingest reads and writes. All of it runs as the extension's owner, inside SPI.
 */
#ifndef TMS_INGEST_LEDGER_H
#define TMS_INGEST_LEDGER_H

#include "postgres.h"

#include "utils/date.h"
#include "utils/timestamp.h"

#include "tms_ext/ingest_header.h"

/* What is answered to a device beside its ledger's state. */
typedef struct TmsIngestDevice
{
	int32 device_id;
	bool has_cleaning_period; /* the column is NOT NULL; who took that away gets NULL answered, which agents refuse */
	Interval cleaning_period;
	int64 request_id; /* of the oldest upload request it has not seen; 0: none */
	TimestampTz request_since;
	TimestampTz request_until;
} TmsIngestDevice;

/* A row of tms.ledger. */
typedef struct TmsIngestLedger
{
	int32 ledger_no;
	int32 device_id; /* that reports it */
	int64 accepted_seq;
	bool has_accepted_sha256;
	uint8 accepted_sha256[TMS_SHA256_SIZE];
	int64 last_seq;
	int64 uploaded_seq;
	int64 uploaded_max;
	int64 cleaned_seq;
	int64 report_no;
	int64 request_seen;
	int64 settled_seq; /* gaps above it are open: an import left them, and the agent may fill them yet */
} TmsIngestLedger;

#define TMS_ALL_SETTLED INT64CONST(-1) /* a settled_seq: no gap is open */

/* Seqs from .. to, both included. */
typedef struct TmsSeqRange
{
	int64 from;
	int64 to;
} TmsSeqRange;

/* Finds the device and checks the token; error 28000, the same for a wrong token and an unknown device. */
extern void tms_ingest_authenticate(const TmsIngestHeader *header, TmsIngestDevice *device);

/* Reads the ledger's row and locks it to the end of the transaction; makes it when the ledger was never seen. */
extern void tms_ingest_ledger_lock(const TmsUuid *ledger, int32 device_id, TmsIngestLedger *out);

/* Writes it back. */
extern void tms_ingest_ledger_update(const TmsIngestLedger *ledger);

/* Keeps a heartbeat. */
extern void tms_ingest_status_put(int32 device_id, Jsonb *status);

/* Notes that the captures of these seqs are from that day. */
extern void tms_ingest_day_put(int32 ledger_no, DateADT day, TmsSeqRange seqs);

/* Days that may hold captures of these seqs, ascending; memory is the current context's. */
extern int tms_ingest_days(int32 ledger_no, TmsSeqRange seqs, DateADT **days);

/* Declares that these seqs are missing. */
extern void tms_ingest_gap_declare(int32 ledger_no, TmsSeqRange seqs, const char *reason);

/* Takes seqs that are there after all out of the gaps that had them. */
extern void tms_ingest_gap_fill(int32 ledger_no, TmsSeqRange seqs);

/* Gaps that overlap these seqs, ascending; memory is the current context's. */
extern int tms_ingest_gaps(int32 ledger_no, TmsSeqRange seqs, TmsSeqRange **gaps);

/* The first seq above this one that is in a gap; 0: none. */
extern int64 tms_ingest_gap_above(int32 ledger_no, int64 seq);

#endif
