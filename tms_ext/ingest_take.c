/*
 * Sorting the rows of a call, then writing what was decided; the invariants are in ingest.c.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "tms_ext/compat.h"
#include "tms_ext/ingest_capture.h"
#include "tms_ext/ingest_take.h"

#define REASON_LOST "no longer held by the ledger"

/* Seqs, ascending, as ranges. */
typedef struct SeqList
{
	TmsSeqRange *ranges;
	int count;
} SeqList;

/* The rows of one call, and what to do with them. */
typedef struct Take
{
	TmsIngestLedger *ledger;
	const TmsIngestRows *rows;
	int64 first_seq;
	int *picked; /* rows to insert */
	int picked_count;
	SeqList filled; /* seqs to insert that are inside gaps */
	SeqList missing; /* seqs to declare as gaps */
	int64 fork_from;
} Take;

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
static void sort_known(Take *take, int count)
{
	TmsSeqRange seqs = {take->first_seq, take->first_seq + count - 1};
	TmsStoredCaptures stored = tms_ingest_stored(take->ledger->ledger_no, seqs);
	TmsSeqRange *gaps;
	int gap_count = tms_ingest_gaps(take->ledger->ledger_no, seqs, &gaps);
	int row;

	for (row = 0; row < count && take->fork_from == 0; row++)
	{
		int64 seq = seqs.from + row;
		const TmsStoredCapture *capture = tms_ingest_stored_get(&stored, seq);

		if (!take->rows->held[row])
			continue;
		if (capture == NULL)
		{
			if (!in_ranges(gaps, gap_count, seq))
				continue; /* its day was dropped */
			take->picked[take->picked_count++] = row;
			seq_list_add(&take->filled, seq);
		}
		else if (!equals_stored(take->rows, TMS_INGEST_PATH, row, capture->path) ||
				 !equals_stored(take->rows, TMS_INGEST_SHA256, row, capture->sha256))
			take->fork_from = seq;
	}
}

/* Rows that are new, from this one on. */
static void sort_new(Take *take, int row)
{
	TmsIngestLedger *ledger = take->ledger;
	const TmsIngestRows *rows = take->rows;
	const TmsIngestColumn *digests = &rows->columns[TMS_INGEST_SHA256];
	int last = rows->count - 1;

	for (; row <= last; row++)
	{
		if (rows->held[row])
			take->picked[take->picked_count++] = row;
		else
			seq_list_add(&take->missing, take->first_seq + row);
	}
	ledger->accepted_seq = take->first_seq + last;
	ledger->has_accepted_sha256 = rows->held[last] && !digests->nulls[last];
	if (ledger->has_accepted_sha256)
		memcpy(ledger->accepted_sha256, VARDATA_ANY(DatumGetByteaPP(digests->values[last])), TMS_SHA256_SIZE);
}

TmsIngestTaken tms_ingest_take(TmsIngestLedger *ledger, int32 device_id, const TmsIngestRows *rows, int64 first_seq)
{
	Take take = {.ledger = ledger, .rows = rows, .first_seq = first_seq};
	int64 known = ledger->accepted_seq - first_seq + 1;
	int i;

	/* After a restore of the path center the rows may begin too late: the answer tells the agent where to go on. */
	if (rows->count == 0 || known < 0)
		return (TmsIngestTaken){0, 0};
	take.picked = palloc(sizeof(int) * rows->count);
	take.filled = seq_list(rows->count);
	take.missing = seq_list(rows->count);
	if (known > 0)
		sort_known(&take, (int) Min(known, rows->count));
	if (take.fork_from == 0 && known < rows->count)
		sort_new(&take, (int) known);

	if (take.picked_count > 0)
		tms_ingest_insert(rows, take.picked, take.picked_count, first_seq, ledger->ledger_no, device_id);
	for (i = 0; i < take.filled.count; i++)
		tms_ingest_gap_fill(ledger->ledger_no, take.filled.ranges[i]);
	for (i = 0; i < take.missing.count; i++)
		tms_ingest_gap_declare(ledger->ledger_no, take.missing.ranges[i], REASON_LOST);
	return (TmsIngestTaken){take.picked_count, take.fork_from};
}
