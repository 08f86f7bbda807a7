/*
 * tms.ingest: the path center's side of the ledger protocol (DESIGN 6a).
 *
 * A ledger is the gap-free list 1, 2, 3 ... of an agent's captures. What the path center holds of it, between transactions:
 *
 *  - accepted_seq: every seq up to it has its row in tms.capture, or is inside a declared gap, or had a row that was dropped
 *    with its day; no seq above it has a row or is in a gap;
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
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

/* With retention off, what claims to be older than this comes from a clock that was never set. */
#define EARLIEST_SANE_DAY 1 /* since 2000-01-01 */

#define REASON_DROPPED "dropped from the ledger before it was registered"
#define REASON_LOST    "no longer held by the ledger"

PG_FUNCTION_INFO_V1(tms_ingest);

/* Seqs, ascending, as ranges. */
typedef struct SeqList
{
	TmsSeqRange *ranges;
	int count;
} SeqList;

/* One call. */
typedef struct Ingest
{
	TmsIngestHeader header;
	TmsIngestRows rows;
	TmsIngestDevice device;
	TmsIngestLedger ledger;
	int64 answer; /* accepted_seq of the answer */
	int64 fork_from; /* 0: none */

	/* what to do with the rows */
	int *picked; /* rows to insert */
	int picked_count;
	SeqList filled; /* seqs to insert that are inside gaps */
	SeqList missing; /* seqs to declare as gaps */
} Ingest;

static SeqList seq_list(int most)
{
	SeqList list = {palloc(sizeof(TmsSeqRange) * (most + 1)), 0};

	return list;
}

/* Appends a seq that is greater than all before. */
static void seq_list_add(SeqList *list, int64 seq)
{
	TmsSeqRange *last = &list->ranges[list->count - 1];

	if (list->count > 0 && last->to == seq - 1)
		last->to = seq;
	else
		list->ranges[list->count++] = (TmsSeqRange){seq, seq};
}

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

/* Is column's value the stored one, byte by byte? */
static bool equals_stored(const TmsIngestRows *rows, TmsIngestColumnNo column, int row, const struct varlena *stored)
{
	struct varlena *value;

	if (rows->columns[column].nulls[row] || stored == NULL)
		return rows->columns[column].nulls[row] && stored == NULL;
	value = PG_DETOAST_DATUM_PACKED(rows->columns[column].values[row]);
	return VARSIZE_ANY_EXHDR(value) == VARSIZE_ANY_EXHDR(stored) &&
		   memcmp(VARDATA_ANY(value), VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored)) == 0;
}

static bool in_ranges(const TmsSeqRange *ranges, int count, int64 seq)
{
	int i;

	for (i = 0; i < count; i++)
		if (ranges[i].from <= seq && seq <= ranges[i].to)
			return true;
	return false;
}

/* Rows whose seq is accepted already; sets fork_from at the first one that is another capture than the stored one. */
static void sort_known(Ingest *ingest, int count)
{
	TmsSeqRange seqs = {ingest->header.first_seq, ingest->header.first_seq + count - 1};
	TmsStoredCaptures stored = tms_ingest_stored(ingest->ledger.ledger_no, seqs);
	TmsSeqRange *gaps;
	int gap_count = tms_ingest_gaps(ingest->ledger.ledger_no, seqs, &gaps);
	int row;

	for (row = 0; row < count && ingest->fork_from == 0; row++)
	{
		int64 seq = seqs.from + row;
		const TmsStoredCapture *capture = tms_ingest_stored_get(&stored, seq);

		if (!ingest->rows.held[row])
			continue;
		if (capture == NULL)
		{
			if (!in_ranges(gaps, gap_count, seq))
				continue; /* its day was dropped */
			ingest->picked[ingest->picked_count++] = row;
			seq_list_add(&ingest->filled, seq);
		}
		else if (!equals_stored(&ingest->rows, TMS_INGEST_PATH, row, capture->path) ||
				 !equals_stored(&ingest->rows, TMS_INGEST_SHA256, row, capture->sha256))
			ingest->fork_from = seq;
	}
}

/* Rows that are new, from this one on. */
static void sort_new(Ingest *ingest, int row)
{
	TmsIngestLedger *ledger = &ingest->ledger;
	const TmsIngestColumn *digests = &ingest->rows.columns[TMS_INGEST_SHA256];
	int last = ingest->rows.count - 1;

	for (; row <= last; row++)
	{
		if (ingest->rows.held[row])
			ingest->picked[ingest->picked_count++] = row;
		else
			seq_list_add(&ingest->missing, ingest->header.first_seq + row);
	}
	ledger->accepted_seq = ingest->header.first_seq + last;
	ledger->has_accepted_sha256 = ingest->rows.held[last] && !digests->nulls[last];
	if (ledger->has_accepted_sha256)
		memcpy(ledger->accepted_sha256, VARDATA_ANY(DatumGetByteaPP(digests->values[last])), TMS_SHA256_SIZE);
}

/* Decides about every row, then writes what was decided. */
static void take_rows(Ingest *ingest)
{
	int32 ledger_no = ingest->ledger.ledger_no;
	int count = ingest->rows.count;
	int64 known = ingest->ledger.accepted_seq - ingest->header.first_seq + 1;
	int i;

	/* After a restore of the path center the rows may begin too late: the answer tells the agent where to go on. */
	if (count == 0 || known < 0)
		return;
	ingest->picked = palloc(sizeof(int) * count);
	ingest->filled = seq_list(count);
	ingest->missing = seq_list(count);
	if (known > 0)
		sort_known(ingest, (int) Min(known, count));
	if (ingest->fork_from == 0 && known < count)
		sort_new(ingest, (int) known);

	if (ingest->picked_count > 0)
		tms_ingest_insert(&ingest->rows, ingest->picked, ingest->picked_count, ingest->header.first_seq, ledger_no,
						  ingest->device.device_id);
	for (i = 0; i < ingest->filled.count; i++)
		tms_ingest_gap_fill(ledger_no, ingest->filled.ranges[i]);
	for (i = 0; i < ingest->missing.count; i++)
		tms_ingest_gap_declare(ledger_no, ingest->missing.ranges[i], REASON_LOST);
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

/* The protocol, once the caller is known and the ledger locked. */
static void run_protocol(Ingest *ingest)
{
	TmsIngestLedger *ledger = &ingest->ledger;
	TmsIngestHeader *header = &ingest->header;

	if (history_differs(ingest))
	{
		ingest->answer = header->first_seq - 2;
		return;
	}
	if (header->oldest_seq > ledger->accepted_seq + 1)
	{
		tms_ingest_gap_declare(ledger->ledger_no, (TmsSeqRange){ledger->accepted_seq + 1, header->oldest_seq - 1},
							   REASON_DROPPED);
		ledger->accepted_seq = header->oldest_seq - 1;
		ledger->has_accepted_sha256 = false;
	}
	take_rows(ingest);
	take_report(ingest);
	tms_ingest_ledger_update(ledger, ingest->device.device_id);
	ingest->answer = ledger->accepted_seq;
}

/* Brings the rows under the rules of a record; now is when this statement came. */
static void check_rows(Ingest *ingest)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();
	TimestampTz earliest = tms_day_start(EARLIEST_SANE_DAY);

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
