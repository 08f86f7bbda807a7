/*
 * The arrays of tms.ingest and the rules of a row. No content of a row is an error here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "common/capture_record.h"
#include "common/object_path.h"
#include "common/sha256.h"
#include "tms_ext/ingest_rows.h"

/* So much of a rejected value is kept, in bytes of text; of binary ones, so many bytes. */
#define REJECTED_TEXT_MAX   200
#define REJECTED_BINARY_MAX 64

/* Attributes within the agent's rule never take more as jsonb: the worst is an array of one-digit numbers. */
#define ATTRIBUTES_BYTES_MAX (8 * TMS_ATTRIBUTES_MAX)

typedef struct ColumnRule ColumnRule;
struct ColumnRule
{
	const char *name;
	Oid type;
	bool required; /* in a row that is held */
	TmsField field;
	bool (*valid)(const ColumnRule *rule, Datum value);
	void (*describe)(StringInfo json, Datum value); /* appends a JSON value, cut */
};

/* --- what is valid --- */

static bool any_valid(const ColumnRule *rule, Datum value)
{
	return true;
}

static bool path_valid(const ColumnRule *rule, Datum value)
{
	text *path = DatumGetTextPP(value);

	return tms_storage_path_valid(VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path));
}

static bool image_bytes_valid(const ColumnRule *rule, Datum value)
{
	return DatumGetInt32(value) > 0;
}

static bool sha256_valid(const ColumnRule *rule, Datum value)
{
	return VARSIZE_ANY_EXHDR(DatumGetPointer(value)) == TMS_SHA256_SIZE;
}

static bool text_valid(const ColumnRule *rule, Datum value)
{
	text *string = DatumGetTextPP(value);

	return tms_field_text_valid(rule->field, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), NULL);
}

static bool int16_valid(const ColumnRule *rule, Datum value)
{
	return tms_field_int_valid(rule->field, DatumGetInt16(value));
}

static bool attributes_valid(const ColumnRule *rule, Datum value)
{
	return VARSIZE_ANY_EXHDR(DatumGetPointer(value)) <= ATTRIBUTES_BYTES_MAX &&
		   JB_ROOT_IS_OBJECT(DatumGetJsonbP(value));
}

/* --- what is kept of what is not --- */

static void describe_cut(StringInfo json, const char *string, int len)
{
	escape_json(json, pnstrdup(string, pg_mbcliplen(string, len, REJECTED_TEXT_MAX)));
}

static void describe_text(StringInfo json, Datum value)
{
	text *string = DatumGetTextPP(value);

	describe_cut(json, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static void describe_bytea(StringInfo json, Datum value)
{
	bytea *bytes = DatumGetByteaPP(value);
	char hex[2 * REJECTED_BINARY_MAX + 1];

	tms_hex_format((uint8_t *) VARDATA_ANY(bytes), Min(VARSIZE_ANY_EXHDR(bytes), REJECTED_BINARY_MAX), hex);
	escape_json(json, hex);
}

static void describe_int16(StringInfo json, Datum value)
{
	appendStringInfo(json, "%d", DatumGetInt16(value));
}

static void describe_int32(StringInfo json, Datum value)
{
	appendStringInfo(json, "%d", DatumGetInt32(value));
}

static void describe_jsonb(StringInfo json, Datum value)
{
	Jsonb *jsonb = DatumGetJsonbP(value);
	char *string = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	describe_cut(json, string, strlen(string));
}

/* captured_at has a rule of its own, in check_time. */
static const ColumnRule column_rules[TMS_INGEST_COLUMNS] = {
	[TMS_INGEST_CAPTURED_AT] = {"captured_at", TIMESTAMPTZOID, false, TMS_FIELD_CAPTURED_AT, any_valid},
	[TMS_INGEST_PATH] = {"path", TEXTOID, true, TMS_FIELD_COUNT, path_valid, describe_text},
	[TMS_INGEST_IMAGE_BYTES] = {"image_bytes", INT4OID, true, TMS_FIELD_COUNT, image_bytes_valid, describe_int32},
	[TMS_INGEST_SHA256] = {"sha256", BYTEAOID, true, TMS_FIELD_COUNT, sha256_valid, describe_bytea},
	[TMS_INGEST_PLATE] = {"plate", TEXTOID, false, TMS_FIELD_PLATE, text_valid, describe_text},
	[TMS_INGEST_PLATE_CLASS] = {"plate_class", TEXTOID, false, TMS_FIELD_PLATE_CLASS, text_valid, describe_text},
	[TMS_INGEST_PLATE_COLOR] = {"plate_color", TEXTOID, false, TMS_FIELD_PLATE_COLOR, text_valid, describe_text},
	[TMS_INGEST_DIRECTION] = {"direction", TEXTOID, false, TMS_FIELD_DIRECTION, text_valid, describe_text},
	[TMS_INGEST_LANE] = {"lane", INT2OID, false, TMS_FIELD_LANE, int16_valid, describe_int16},
	[TMS_INGEST_SPEED_KMH] = {"speed_kmh", INT2OID, false, TMS_FIELD_SPEED_KMH, int16_valid, describe_int16},
	[TMS_INGEST_VIOLATION_CODE] = {"violation_code", TEXTOID, false, TMS_FIELD_VIOLATION_CODE, text_valid,
								   describe_text},
	[TMS_INGEST_EVENT_ID] = {"event_id", UUIDOID, false, TMS_FIELD_EVENT_ID, any_valid},
	[TMS_INGEST_ATTRIBUTES] = {"attributes", JSONBOID, false, TMS_FIELD_ATTRIBUTES, attributes_valid, describe_jsonb},
};

Oid tms_ingest_column_type(TmsIngestColumnNo column)
{
	return column_rules[column].type;
}

const char *tms_ingest_column_name(TmsIngestColumnNo column)
{
	return column_rules[column].name;
}

/* --- reading --- */

/* Number of elements of a column's array; errors for one that is no plain list. */
static int elements_of(const ArrayType *array, TmsIngestColumnNo column)
{
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("array \"%s\" has %d dimensions", column_rules[column].name, ARR_NDIM(array)),
						errdetail("Every array of tms.ingest must have one dimension.")));
	return ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];
}

static void read_column(TmsIngestRows *rows, TmsIngestColumnNo no)
{
	TmsIngestColumn *column = &rows->columns[no];
	Oid type = column_rules[no].type;
	int16 typlen;
	bool typbyval;
	char typalign;
	int count;

	if (column->array == NULL)
	{
		column->values = palloc0(sizeof(Datum) * rows->count);
		column->nulls = palloc(sizeof(bool) * rows->count);
		memset(column->nulls, true, sizeof(bool) * rows->count);
		return;
	}
	count = elements_of(column->array, no);
	if (count != rows->count)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("array \"%s\" has %d elements, but array \"path\" has %d", column_rules[no].name, count,
							   rows->count)));
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(column->array, type, typlen, typbyval, typalign, &column->values, &column->nulls, &count);
}

void tms_ingest_rows_read(FunctionCallInfo fcinfo, int first_arg, TmsIngestRows *rows)
{
	const ArrayType *path;
	int i;

	memset(rows, 0, sizeof(*rows));
	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
		if (!PG_ARGISNULL(first_arg + i))
			rows->columns[i].array = PG_GETARG_ARRAYTYPE_P(first_arg + i);
	path = rows->columns[TMS_INGEST_PATH].array;
	rows->count = path == NULL ? 0 : elements_of(path, TMS_INGEST_PATH);
	if (rows->count > TMS_INGEST_ROWS_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("array \"path\" has %d elements", rows->count),
						errdetail("One call of tms.ingest takes at most %d rows.", TMS_INGEST_ROWS_MAX)));
	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
		read_column(rows, i);
	rows->held = palloc(sizeof(bool) * rows->count);
	for (i = 0; i < rows->count; i++)
		rows->held[i] = !rows->columns[TMS_INGEST_PATH].nulls[i];
}

/* --- checking --- */

static void set_value(TmsIngestRows *rows, TmsIngestColumnNo column, int row, Datum value, bool is_null)
{
	rows->columns[column].values[row] = value;
	rows->columns[column].nulls[row] = is_null;
	rows->columns[column].altered = true;
}

/* Adds a member to the JSON object that is being written, which the first one creates. */
static StringInfo add_member(StringInfo json, const char *name)
{
	if (json == NULL)
	{
		json = makeStringInfo();
		appendStringInfoChar(json, '{');
	}
	else
		appendStringInfoChar(json, ',');
	escape_json(json, name);
	appendStringInfoChar(json, ':');
	return json;
}

/* Replaces values of a row that break their rule by NULL; returns the JSON members of what was rejected, or NULL. */
static StringInfo check_values(TmsIngestRows *rows, int row)
{
	StringInfo rejected = NULL;
	int i;

	for (i = 0; i < TMS_INGEST_COLUMNS; i++)
	{
		const ColumnRule *rule = &column_rules[i];
		const TmsIngestColumn *column = &rows->columns[i];

		if (column->nulls[row] ? !rule->required : rule->valid(rule, column->values[row]))
			continue;
		rejected = add_member(rejected, rule->name);
		if (column->nulls[row])
			appendStringInfoString(rejected, "null");
		else
			rule->describe(rejected, column->values[row]);
		set_value(rows, i, row, (Datum) 0, true);
	}
	return rejected;
}

/* Replaces an absurd time; returns the JSON text of what was claimed, or NULL when it was sane. */
static const char *check_time(TmsIngestRows *rows, int row, TimestampTz earliest, TimestampTz latest,
							  TimestampTz received)
{
	const TmsIngestColumn *column = &rows->columns[TMS_INGEST_CAPTURED_AT];
	TimestampTz claimed = DatumGetTimestampTz(column->values[row]);
	bool is_null = column->nulls[row];
	char text[MAXDATELEN + 1];
	int utc = 0;

	if (!is_null && claimed >= earliest && claimed <= latest)
		return NULL;
	set_value(rows, TMS_INGEST_CAPTURED_AT, row, TimestampTzGetDatum(received), false);
	if (is_null)
		return "null";
	JsonEncodeDateTime(text, TimestampTzGetDatum(claimed), TIMESTAMPTZOID, &utc);
	return psprintf("\"%s\"", text);
}

/* Adds what was changed in a row to its attributes. */
static void note_changes(TmsIngestRows *rows, int row, const char *claimed_at, StringInfo rejected)
{
	const TmsIngestColumn *column = &rows->columns[TMS_INGEST_ATTRIBUTES];
	StringInfo notes = NULL;
	Datum merged;

	if (claimed_at != NULL)
	{
		notes = add_member(notes, "claimed_at");
		appendStringInfoString(notes, claimed_at);
	}
	if (rejected != NULL)
	{
		notes = add_member(notes, "rejected");
		appendStringInfo(notes, "%s}", rejected->data);
	}
	appendStringInfoChar(notes, '}');
	merged = DirectFunctionCall1(jsonb_in, CStringGetDatum(notes->data));
	if (!column->nulls[row])
		merged = DirectFunctionCall2(jsonb_concat, column->values[row], merged);
	set_value(rows, TMS_INGEST_ATTRIBUTES, row, merged, false);
}

void tms_ingest_rows_check(TmsIngestRows *rows, TimestampTz earliest, TimestampTz latest, TimestampTz received)
{
	int row;

	for (row = 0; row < rows->count; row++)
	{
		const char *claimed_at;
		StringInfo rejected;

		if (!rows->held[row])
			continue;
		claimed_at = check_time(rows, row, earliest, latest, received);
		rejected = check_values(rows, row);
		if (claimed_at != NULL || rejected != NULL)
			note_changes(rows, row, claimed_at, rejected);
	}
}

Datum tms_ingest_column_array(const TmsIngestRows *rows, TmsIngestColumnNo no, const int *picked, int count,
							  bool *is_null)
{
	const TmsIngestColumn *column = &rows->columns[no];
	Datum *values;
	bool *nulls;
	int16 typlen;
	bool typbyval;
	char typalign;
	int lower_bound = 1;
	int i;

	*is_null = column->array == NULL && !column->altered;
	if (*is_null)
		return (Datum) 0;
	if (count == rows->count && !column->altered)
		return PointerGetDatum(column->array);
	values = palloc(sizeof(Datum) * count);
	nulls = palloc(sizeof(bool) * count);
	for (i = 0; i < count; i++)
	{
		values[i] = column->values[picked[i]];
		nulls[i] = column->nulls[picked[i]];
	}
	get_typlenbyvalalign(column_rules[no].type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(
		construct_md_array(values, nulls, 1, &count, &lower_bound, column_rules[no].type, typlen, typbyval, typalign));
}
