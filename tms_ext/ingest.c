/*
 * tms.ingest: the path center's side of the ledger protocol (DESIGN 6a).
 *
 * A ledger is the gap-free list 1, 2, 3 ... of an agent's captures. What the path center holds of it, between transactions:
 *
 *  - accepted_seq: every seq up to it has its row in tms.capture, or is inside a declared gap, or had a row that was dropped
 *    with its day; no seq above it has a row or is in a gap;
 *  - settled_seq, after an import from manifests (manifest.c) that left gaps: those above it are open, for the agent may have
 *    what no manifest has. No agent is answered an accepted_seq beyond an open gap, so none takes for registered what is not;
 *  - a row is never updated, and no seq gets a second one: a call that repeats a seq is compared with the row. Where they
 *    differ, two histories have the same seqs (a copied or rolled-back ledger), and the agent is told to go on under another
 *    ledger from there (fork_from);
 *  - before anything else the capture before the call's first row is compared, so that histories that parted earlier are
 *    traced back to where they did.
 *
 * Calls for one ledger are put in order by the lock on its row of tms.ledger. Nothing is kept in the session but plans.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "common/capture_record.h"
#include "tms_ext/ingest_capture.h"
#include "tms_ext/ingest_header.h"
#include "tms_ext/ingest_ledger.h"
#include "tms_ext/ingest_rows.h"
#include "tms_ext/ingest_take.h"
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

#define REASON_DROPPED "dropped from the ledger before it was registered"

PG_FUNCTION_INFO_V1(tms_ingest);

/* One call. */
typedef struct Ingest
{
	TmsIngestHeader header;
	TmsIngestRows rows;
	TmsIngestDevice device;
	TmsIngestLedger ledger;
	int64 answer; /* accepted_seq of the answer */
	int64 fork_from; /* 0: none */
} Ingest;

static bool digest_differs(bytea *stored, const uint8 *digest)
{
	return VARSIZE_ANY_EXHDR(stored) != TMS_SHA256_SIZE || memcmp(VARDATA_ANY(stored), digest, TMS_SHA256_SIZE) != 0;
}

/*
 * Is the capture before the first row another one here than in the ledger? A row without a digest (it was rejected) tells
 * nothing, and neither does a call without prev_sha256.
 */
static bool history_differs(const Ingest *ingest)
{
	int64 seq = ingest->header.first_seq - 1;
	const TmsStoredCapture *capture;
	TmsStoredCaptures stored;

	if (!ingest->header.has_prev_sha256 || seq < 1 || seq > ingest->ledger.accepted_seq)
		return false;
	if (seq == ingest->ledger.accepted_seq && ingest->ledger.has_accepted_sha256 &&
		memcmp(ingest->ledger.accepted_sha256, ingest->header.prev_sha256, TMS_SHA256_SIZE) == 0)
		return false;
	stored = tms_ingest_stored(ingest->ledger.ledger_no, (TmsSeqRange){seq, seq});
	capture = tms_ingest_stored_get(&stored, seq);
	return capture != NULL && capture->sha256 != NULL && digest_differs(capture->sha256, ingest->header.prev_sha256);
}

/* Takes what the agent says of the ledger as a whole. One that is told to fork speaks of a history that is not this one. */
static void take_report(Ingest *ingest)
{
	const TmsIngestHeader *header = &ingest->header;
	TmsIngestLedger *ledger = &ingest->ledger;

	if (ingest->fork_from != 0)
		return;
	ledger->last_seq = Max(ledger->last_seq, header->last_seq);
	if (header->report_no < ledger->report_no)
		return;
	ledger->report_no = header->report_no;
	ledger->uploaded_seq = header->uploaded_seq;
	ledger->uploaded_max = header->uploaded_max;
	ledger->cleaned_seq = header->cleaned_seq;
	ledger->request_seen = header->request_seen;
	if (header->status != NULL)
		tms_ingest_status_put(ingest->device.device_id, header->status);
}

/* This accepted_seq, or what comes before the first open gap. */
static int64 up_to_open_gap(const TmsIngestLedger *ledger, int64 accepted_seq)
{
	int64 open = 0;

	if (ledger->settled_seq != TMS_ALL_SETTLED)
		open = tms_ingest_gap_above(ledger->ledger_no, ledger->settled_seq);
	return open != 0 ? Min(accepted_seq, open - 1) : accepted_seq;
}

/*
 * Which accepted_seq to answer. Gaps that an import left are open until the agent has gone over them: it is led back to the
 * first one, and what its rows do not fill, or its ledger no longer has, is missing for good.
 */
static int64 settle(Ingest *ingest)
{
	TmsIngestLedger *ledger = &ingest->ledger;
	const TmsIngestHeader *header = &ingest->header;
	int64 open;

	if (ledger->settled_seq == TMS_ALL_SETTLED)
		return ledger->accepted_seq;
	ledger->settled_seq = Max(ledger->settled_seq, header->oldest_seq - 1);
	open = tms_ingest_gap_above(ledger->ledger_no, ledger->settled_seq);
	if (open != 0 && ingest->fork_from == 0 && ingest->rows.count > 0 && header->first_seq <= open)
	{
		ledger->settled_seq = Max(ledger->settled_seq, header->first_seq + ingest->rows.count - 1);
		open = tms_ingest_gap_above(ledger->ledger_no, ledger->settled_seq);
	}
	if (open != 0)
		return Min(ledger->accepted_seq, open - 1);
	ledger->settled_seq = TMS_ALL_SETTLED;
	return ledger->accepted_seq;
}

/* The protocol, once the caller is known and the ledger locked. */
static void run_protocol(Ingest *ingest)
{
	TmsIngestLedger *ledger = &ingest->ledger;
	TmsIngestHeader *header = &ingest->header;

	if (history_differs(ingest))
	{
		ingest->answer = up_to_open_gap(ledger, header->first_seq - 2);
		return;
	}
	if (header->oldest_seq > ledger->accepted_seq + 1)
	{
		tms_ingest_gap_declare(ledger->ledger_no, (TmsSeqRange){ledger->accepted_seq + 1, header->oldest_seq - 1},
							   REASON_DROPPED);
		ledger->accepted_seq = header->oldest_seq - 1;
		ledger->has_accepted_sha256 = false;
	}
	ingest->fork_from = tms_ingest_take(ledger, ingest->device.device_id, &ingest->rows, header->first_seq).fork_from;
	ingest->answer = settle(ingest);
	take_report(ingest);
	ledger->device_id = ingest->device.device_id;
	tms_ingest_ledger_update(ledger);
}

/* Brings the rows under the rules of a record; now is when this statement came. */
static void check_rows(Ingest *ingest)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();
	TimestampTz earliest = tms_day_start(TMS_EARLIEST_SANE_DAY);

	if (tms_retention > 0)
		earliest = Max(earliest, now - tms_retention * USECS_PER_MINUTE);
	tms_ingest_rows_check(&ingest->rows, earliest, now + USECS_PER_DAY, now);
}

/* {"id", "since", "until"}, times in RFC 3339. */
static Datum request_json(const TmsIngestDevice *device)
{
	const int64 epoch = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	char since[TMS_TIME_TEXT_SIZE];
	char until[TMS_TIME_TEXT_SIZE];

	/* Beyond the years that RFC 3339 can write there are no captures. */
	if (!tms_time_format(device->request_since + epoch, since))
		strlcpy(since, "0001-01-01T00:00:00.000000Z", sizeof(since));
	if (!tms_time_format(device->request_until + epoch, until))
		strlcpy(until, "9999-12-31T23:59:59.999999Z", sizeof(until));
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(psprintf("{\"id\":" INT64_FORMAT ",\"since\":\"%s\",\"until\":\"%s\"}",
														device->request_id, since, until)));
}

static Datum answer_row(FunctionCallInfo fcinfo, const Ingest *ingest)
{
	const TmsIngestDevice *device = &ingest->device;
	Datum values[4] = {0};
	bool nulls[4] = {false, ingest->fork_from == 0, !device->has_cleaning_period, device->request_id == 0};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "tms.ingest must return a row");
	values[0] = Int64GetDatum(ingest->answer);
	values[1] = Int64GetDatum(ingest->fork_from);
	if (device->has_cleaning_period)
		values[2] = IntervalPGetDatum(&device->cleaning_period);
	if (!nulls[3])
		values[3] = request_json(device);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum tms_ingest(PG_FUNCTION_ARGS)
{
	Ingest ingest = {0};
	TmsIdentity saved;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the header is NULL")));
	tms_ingest_rows_read(fcinfo, 1, &ingest.rows);
	tms_ingest_header_read(PG_GETARG_JSONB_P(0), ingest.rows.count, &ingest.header);

	tms_run_as(tms_extension_owner(), &saved);
	SPI_connect();
	tms_ingest_authenticate(&ingest.header, &ingest.device);
	check_rows(&ingest);
	tms_ingest_ledger_lock(&ingest.header.ledger, ingest.device.device_id, &ingest.ledger);
	run_protocol(&ingest);
	SPI_finish();
	tms_run_back(&saved);

	PG_RETURN_DATUM(answer_row(fcinfo, &ingest));
}
