/*
 * Rows on their way into a ledger: which of them are new, known, another history, or no longer held; for tms.ingest and for
 * manifests alike.
 */
#ifndef TMS_INGEST_TAKE_H
#define TMS_INGEST_TAKE_H

#include "postgres.h"

#include "tms_ext/ingest_ledger.h"
#include "tms_ext/ingest_rows.h"

typedef struct TmsIngestTaken
{
	int added; /* rows inserted */
	int64 fork_from; /* the first seq that holds another capture here: it and what follows were not taken; 0: none */
} TmsIngestTaken;

/*
 * Takes rows, element i of which is seq first_seq + i, into a locked ledger, whose accepted_seq and accepted_sha256 move on;
 * the caller writes the ledger's row. Does nothing when the rows begin behind accepted_seq + 1. Inside SPI, as the
 * extension's owner.
 */
extern TmsIngestTaken tms_ingest_take(TmsIngestLedger *ledger, int32 device_id, const TmsIngestRows *rows,
									  int64 first_seq);

#endif
