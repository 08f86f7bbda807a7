/*
 * Manifests: the records of captures as agents keep them in the image center, a JSON object a line, from which the path
 * center is made again.
 *
 * A line says of one seq of one ledger what tms.ingest would be told, and goes the same way into tms.capture. Manifests may
 * come in any order, more than once, and while the agent itself goes on: seqs that are there are compared, and what a manifest
 * leaves out becomes a gap that stays open (settled_seq, see ingest.c) until another manifest or the agent fills it.
 *
 * A manifest comes from a store, and may be anything: a line that is not a record is told and passed over, and takes no other
 * with it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "common/capture_record.h"
#include "common/object_path.h"
#include "tms_ext/ingest_capture.h"
#include "tms_ext/ingest_take.h"
#include "tms_ext/json_text.h"
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

#define REASON_NO_MANIFEST "in no manifest of the image center"

#define LINE_BYTES_MAX 65536 /* several times what the longest record takes */
#define LINES_MAX      100000 /* agents write 8,000 at most; bounds memory */
#define PROBLEMS_MAX   20 /* so many are told one by one */

PG_FUNCTION_INFO_V1(tms_manifest_load);

/* One record. */
typedef struct Line
{
	int64 seq;
	int number; /* of the line */
	Datum values[TMS_INGEST_COLUMNS];
	bool nulls[TMS_INGEST_COLUMNS];
} Line;

typedef struct Manifest
{
	const pg_uuid_t *ledger;
	Line *lines;
	int count;
	int size;
	int64 added;
	int64 known;
	int64 problem_count;
	Datum problem_texts[PROBLEMS_MAX + 1];
} Manifest;

/* --- a line --- */

/* Where a column's value stands in a line, and how it is read. */
typedef struct Field
{
	const char *name; /* as DESIGN 6 and docs/agent.md have it */
	TmsIngestColumnNo column;
	enum jbvType type;
	bool required;
	bool (*read)(const JsonbValue *value, Datum *out);
} Field;

static bool read_text(const JsonbValue *value, Datum *out)
{
	*out = PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
	return true;
}

static bool read_path(const JsonbValue *value, Datum *out)
{
	return tms_storage_path_valid(value->val.string.val, value->val.string.len) && read_text(value, out);
}

static bool read_time(const JsonbValue *value, Datum *out)
{
	const int64 epoch = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64 micros;

	if (!tms_time_parse(value->val.string.val, value->val.string.len, &micros))
		return false;
	*out = TimestampTzGetDatum(micros - epoch);
	return true;
}

static bool read_sha256(const JsonbValue *value, Datum *out)
{
	bytea *digest = palloc(VARHDRSZ + TMS_SHA256_SIZE);

	SET_VARSIZE(digest, VARHDRSZ + TMS_SHA256_SIZE);
	*out = PointerGetDatum(digest);
	return tms_sha256_parse(value->val.string.val, value->val.string.len, (uint8 *) VARDATA(digest));
}

static bool read_bytes(const JsonbValue *value, Datum *out)
{
	int64 number;

	if (!tms_json_whole_number(value, 1, PG_INT32_MAX, &number))
		return false;
	*out = Int32GetDatum((int32) number);
	return true;
}

static bool read_int16(const JsonbValue *value, Datum *out)
{
	int64 number;

	if (!tms_json_whole_number(value, PG_INT16_MIN, PG_INT16_MAX, &number))
		return false;
	*out = Int16GetDatum((int16) number);
	return true;
}

static bool read_uuid(const JsonbValue *value, Datum *out)
{
	pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

	*out = UUIDPGetDatum(uuid);
	return tms_uuid_parse(value->val.string.val, value->val.string.len, (TmsUuid *) uuid);
}

static bool read_object(const JsonbValue *value, Datum *out)
{
	*out = JsonbPGetDatum(JsonbValueToJsonb(unconstify(JsonbValue *, value)));
	return JsonContainerIsObject(value->val.binary.data);
}

static const Field fields[] = {
	{"path", TMS_INGEST_PATH, jbvString, true, read_path},
	{"sha256", TMS_INGEST_SHA256, jbvString, true, read_sha256},
	{"bytes", TMS_INGEST_IMAGE_BYTES, jbvNumeric, true, read_bytes},
	{"captured_at", TMS_INGEST_CAPTURED_AT, jbvString, true, read_time},
	{"plate", TMS_INGEST_PLATE, jbvString, false, read_text},
	{"plate_class", TMS_INGEST_PLATE_CLASS, jbvString, false, read_text},
	{"plate_color", TMS_INGEST_PLATE_COLOR, jbvString, false, read_text},
	{"direction", TMS_INGEST_DIRECTION, jbvString, false, read_text},
	{"lane", TMS_INGEST_LANE, jbvNumeric, false, read_int16},
	{"speed_kmh", TMS_INGEST_SPEED_KMH, jbvNumeric, false, read_int16},
	{"violation_code", TMS_INGEST_VIOLATION_CODE, jbvString, false, read_text},
	{"event_id", TMS_INGEST_EVENT_ID, jbvString, false, read_uuid},
	{"attributes", TMS_INGEST_ATTRIBUTES, jbvBinary, false, read_object},
};

/* Reads one line; NULL, or what is wrong with it. */
static const char *read_line(const Manifest *manifest, const char *text, size_t len, Line *line)
{
	JsonbValue value;
	TmsUuid ledger;
	Jsonb *json = len > 0 && text[0] == '{' && len <= LINE_BYTES_MAX ? tms_json_text_read(text, len) : NULL;
	int i;

	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		return "is not a JSON object";
	if (!tms_json_member(json, "ledger", jbvString, &value) ||
		!tms_uuid_parse(value.val.string.val, value.val.string.len, &ledger) ||
		memcmp(&ledger, manifest->ledger, sizeof(ledger)) != 0)
		return "is not of the ledger that the manifest is named for";
	if (!tms_json_member(json, "seq", jbvNumeric, &value) || !tms_json_whole_number(&value, 1, TMS_SEQ_MAX, &line->seq))
		return "has no valid \"seq\"";
	for (i = 0; i < lengthof(fields); i++)
	{
		const Field *field = &fields[i];
		bool present = getKeyJsonValueFromContainer(&json->root, field->name, strlen(field->name), &value) != NULL &&
					   value.type != jbvNull;

		line->nulls[field->column] = !present;
		if (present ? value.type != field->type || !field->read(&value, &line->values[field->column]) : field->required)
			return psprintf("has no valid \"%s\"", field->name);
	}
	return NULL;
}

static void add_problem(Manifest *manifest, const char *problem)
{
	if (manifest->problem_count < PROBLEMS_MAX)
		manifest->problem_texts[manifest->problem_count] = CStringGetTextDatum(problem);
	manifest->problem_count++;
}

/* Reads all lines; what is not a record is a problem. */
static void read_lines(Manifest *manifest, const char *text, size_t len)
{
	int number = 0;

	while (len > 0)
	{
		const char *end = memchr(text, '\n', len);
		size_t line_len = end != NULL ? (size_t) (end - text) : len;
		const char *fault;

		CHECK_FOR_INTERRUPTS();
		if (number == LINES_MAX)
		{
			add_problem(manifest, psprintf("it has more than %d lines: the rest was not read", LINES_MAX));
			return;
		}
		number++;
		if (manifest->count == manifest->size)
		{
			manifest->size *= 2;
			manifest->lines = repalloc_huge(manifest->lines, sizeof(Line) * manifest->size);
		}
		manifest->lines[manifest->count].number = number;
		fault = read_line(manifest, text, line_len, &manifest->lines[manifest->count]);
		if (fault == NULL)
			manifest->count++;
		else
			add_problem(manifest, psprintf("line %d %s", number, fault));
		if (end == NULL)
			add_problem(manifest, "the last line has no end");
		text += line_len + (end != NULL ? 1 : 0);
		len -= line_len + (end != NULL ? 1 : 0);
	}
}

/* --- lines into the ledger --- */

static int by_seq(const void *a, const void *b)
{
	const Line *left = a;
	const Line *right = b;

	if (left->seq != right->seq)
		return left->seq < right->seq ? -1 : 1;
	return left->number - right->number;
}

/* Of several lines for one seq the first is taken. */
static void sort_lines(Manifest *manifest)
{
	int kept = 0;
	int i;

	qsort(manifest->lines, manifest->count, sizeof(Line), by_seq);
	for (i = 0; i < manifest->count; i++)
		if (kept == 0 || manifest->lines[kept - 1].seq != manifest->lines[i].seq)
			manifest->lines[kept++] = manifest->lines[i];
		else
			add_problem(manifest, psprintf("seq " INT64_FORMAT " is there twice", manifest->lines[i].seq));
	manifest->count = kept;
}

/* How many lines from this one on have seqs that follow each other. */
static int run_length(const Manifest *manifest, int first)
{
	int end = first + 1;

	while (end < manifest->count && end - first < TMS_INGEST_ROWS_MAX &&
		   manifest->lines[end].seq == manifest->lines[end - 1].seq + 1)
		end++;
	return end - first;
}

/* Lines as the rows of a call of tms.ingest, under the same rules. */
static TmsIngestRows make_rows(const Line *lines, int count)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();
	TmsIngestRows rows = {.count = count, .held = palloc(sizeof(bool) * count)};
	int column;
	int i;

	memset(rows.held, true, sizeof(bool) * count);
	for (column = 0; column < TMS_INGEST_COLUMNS; column++)
	{
		rows.columns[column].values = palloc(sizeof(Datum) * count);
		rows.columns[column].nulls = palloc(sizeof(bool) * count);
		rows.columns[column].altered = true;
		for (i = 0; i < count; i++)
		{
			rows.columns[column].values[i] = lines[i].values[column];
			rows.columns[column].nulls[i] = lines[i].nulls[column];
		}
	}
	/* What is older than tms.retention comes back with its own day, and goes with it. */
	tms_ingest_rows_check(&rows, tms_day_start(TMS_EARLIEST_SANE_DAY), now + USECS_PER_DAY, now);
	return rows;
}

/* Leaves out what lies between the ledger's end and this seq: a gap, open until somebody fills it. */
static void skip_to(TmsIngestLedger *ledger, int64 seq)
{
	if (seq <= ledger->accepted_seq + 1)
		return;
	if (ledger->settled_seq == TMS_ALL_SETTLED)
		ledger->settled_seq = ledger->accepted_seq;
	tms_ingest_gap_declare(ledger->ledger_no, (TmsSeqRange){ledger->accepted_seq + 1, seq - 1}, REASON_NO_MANIFEST);
	ledger->accepted_seq = seq - 1;
	ledger->has_accepted_sha256 = false;
}

/* Takes lines whose seqs follow each other, up to the first that contradicts what is there; what it needs is freed with SPI. */
static TmsIngestTaken take_piece(TmsIngestLedger *ledger, int32 device_id, const Line *lines, int count)
{
	TmsIngestTaken taken;
	TmsIngestRows rows;

	CHECK_FOR_INTERRUPTS();
	SPI_connect();
	rows = make_rows(lines, count);
	skip_to(ledger, lines[0].seq);
	taken = tms_ingest_take(ledger, device_id, &rows, lines[0].seq);
	SPI_finish();
	return taken;
}

/*
 * Takes a run of lines, going on behind each that contradicts what is there. Such lines seldom come alone (a twin's manifest
 * has nothing else), so behind one pieces begin small and double: the work grows as the lines do.
 */
static void take_run(Manifest *manifest, TmsIngestLedger *ledger, int32 device_id, const Line *lines, int count)
{
	int piece = count;

	while (count > 0)
	{
		int given = Min(piece, count);
		TmsIngestTaken taken = take_piece(ledger, device_id, lines, given);
		int done = taken.fork_from != 0 ? (int) (taken.fork_from - lines[0].seq) : given;

		manifest->added += taken.added;
		manifest->known += done - taken.added;
		piece = taken.fork_from != 0 ? 1 : Min(2 * piece, TMS_INGEST_ROWS_MAX);
		if (taken.fork_from != 0)
		{
			add_problem(manifest, psprintf("seq " INT64_FORMAT " is another capture in tms.capture", taken.fork_from));
			done++;
		}
		lines += done;
		count -= done;
	}
}

/*
 * What a ledger that has not reported here says by its manifests: whatever is in one was verified in the image center. The
 * agent's first report takes the place of that.
 */
static void set_watermarks(const Manifest *manifest, TmsIngestLedger *ledger)
{
	int64 last = manifest->lines[manifest->count - 1].seq;

	ledger->last_seq = Max(ledger->last_seq, last);
	if (ledger->report_no != 0)
		return;
	ledger->uploaded_seq = Max(ledger->uploaded_seq, last);
	ledger->uploaded_max = Max(ledger->uploaded_max, last);
}

static void load_lines(Manifest *manifest, int32 device_id)
{
	TmsIngestLedger ledger;
	TmsIdentity saved;
	int count;
	int i;

	tms_run_as(tms_extension_owner(), &saved);
	SPI_connect();
	tms_ingest_ledger_lock((const TmsUuid *) manifest->ledger, device_id, &ledger);
	SPI_finish();
	for (i = 0; i < manifest->count; i += count)
	{
		count = run_length(manifest, i);
		take_run(manifest, &ledger, device_id, &manifest->lines[i], count);
	}
	set_watermarks(manifest, &ledger);
	SPI_connect();
	tms_ingest_ledger_update(&ledger);
	SPI_finish();
	tms_run_back(&saved);
}

/* --- the function --- */

static Datum problems_array(Manifest *manifest)
{
	int count = (int) Min(manifest->problem_count, PROBLEMS_MAX);

	if (manifest->problem_count > PROBLEMS_MAX)
		manifest->problem_texts[count++] =
			CStringGetTextDatum(psprintf("and " INT64_FORMAT " more", manifest->problem_count - PROBLEMS_MAX));
	return PointerGetDatum(construct_array(manifest->problem_texts, count, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum tms_manifest_load(PG_FUNCTION_ARGS)
{
	Manifest manifest = {.ledger = PG_GETARG_UUID_P(1), .size = 1024};
	bytea *content = PG_GETARG_BYTEA_PP(2);
	Datum values[3];
	bool nulls[3] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "tms.manifest_load does not return the row of this library");
	manifest.lines = palloc(sizeof(Line) * manifest.size);
	read_lines(&manifest, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
	sort_lines(&manifest);
	if (manifest.count > 0)
		load_lines(&manifest, PG_GETARG_INT32(0));

	values[0] = Int64GetDatum(manifest.added);
	values[1] = Int64GetDatum(manifest.known);
	values[2] = problems_array(&manifest);
	nulls[2] = manifest.problem_count == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
