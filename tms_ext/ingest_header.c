/*
 * Reads and checks the header of tms.ingest. Errors name fields and never values: one of them is the token.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "tms_ext/ingest_header.h"
#include "tms_ext/json_text.h"

/* More than any header and heartbeat needs. */
#define HEADER_BYTES_MAX 65536

/* The whole numbers; first_seq and oldest_seq may be one above the last capture. */
static const struct NumberField
{
	const char *name;
	size_t offset;
	int64 min;
	int64 max;
	bool required;
} number_fields[] = {
	{"oldest_seq", offsetof(TmsIngestHeader, oldest_seq), 1, TMS_SEQ_MAX + 1, true},
	{"last_seq", offsetof(TmsIngestHeader, last_seq), 0, TMS_SEQ_MAX, true},
	{"first_seq", offsetof(TmsIngestHeader, first_seq), 1, TMS_SEQ_MAX + 1, true},
	{"uploaded_seq", offsetof(TmsIngestHeader, uploaded_seq), 0, TMS_SEQ_MAX, true},
	{"uploaded_max", offsetof(TmsIngestHeader, uploaded_max), 0, TMS_SEQ_MAX, true},
	{"cleaned_seq", offsetof(TmsIngestHeader, cleaned_seq), 0, TMS_SEQ_MAX, true},
	{"report_no", offsetof(TmsIngestHeader, report_no), 0, PG_INT64_MAX, true},
	{"request_seen", offsetof(TmsIngestHeader, request_seen), 0, PG_INT64_MAX, false},
};

static void field_error(const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("field \"%s\" of the header is missing or not valid", name), errdetail_internal("%s", detail)));
}

/* The member of that name; a JSON null is as good as none. */
static bool get_field(Jsonb *json, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&json->root, name, strlen(name), value) != NULL && value->type != jbvNull;
}

/* A member that is a text; NULL when there is none. */
static char *get_text(Jsonb *json, const char *name, bool required)
{
	JsonbValue value;

	if (!get_field(json, name, &value))
	{
		if (required)
			field_error(name, "It is missing.");
		return NULL;
	}
	if (value.type != jbvString)
		field_error(name, "It must be a string.");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* A member that is a whole number within the field's range; 0 when it is missing and may be. */
static int64 get_number(Jsonb *json, const struct NumberField *field)
{
	JsonbValue value;
	int64 number;

	if (!get_field(json, field->name, &value))
	{
		if (field->required)
			field_error(field->name, "It is missing.");
		return 0;
	}
	if (value.type != jbvNumeric)
		field_error(field->name, "It must be a number.");
	if (!tms_json_whole_number(&value, field->min, field->max, &number))
		field_error(field->name, psprintf("It must be a whole number from " INT64_FORMAT " to " INT64_FORMAT ".",
										  field->min, field->max));
	return number;
}

/* Fields that must fit each other. */
static void check_sequences(const TmsIngestHeader *header, int rows)
{
	if (header->oldest_seq > header->last_seq + 1)
		field_error("oldest_seq", "It is greater than last_seq + 1.");
	if (header->first_seq + rows - 1 > TMS_SEQ_MAX)
		field_error("first_seq", psprintf("The last row's seq is greater than " INT64_FORMAT ".", (int64) TMS_SEQ_MAX));
	if (header->first_seq + rows - 1 > header->last_seq && rows > 0)
		field_error("last_seq", "It is less than the last row's seq.");
}

void tms_ingest_header_read(Jsonb *json, int rows, TmsIngestHeader *header)
{
	JsonbValue status;
	const char *text;
	size_t i;

	memset(header, 0, sizeof(*header));
	if (!JB_ROOT_IS_OBJECT(json) || VARSIZE(json) > HEADER_BYTES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the header is not a JSON object of at most %d bytes", HEADER_BYTES_MAX)));
	header->device = get_text(json, "device", true);
	header->token = get_text(json, "token", true);
	text = get_text(json, "ledger", true);
	if (!tms_uuid_parse(text, strlen(text), &header->ledger))
		field_error("ledger", "It must be a UUID of 36 characters.");
	text = get_text(json, "prev_sha256", false);
	header->has_prev_sha256 = text != NULL;
	if (text != NULL && !tms_sha256_parse(text, strlen(text), header->prev_sha256))
		field_error("prev_sha256", "It must be 64 hexadecimal digits.");
	for (i = 0; i < lengthof(number_fields); i++)
		*(int64 *) ((char *) header + number_fields[i].offset) = get_number(json, &number_fields[i]);
	if (get_field(json, "status", &status))
	{
		if (status.type != jbvBinary || !JsonContainerIsObject(status.val.binary.data))
			field_error("status", "It must be an object.");
		header->status = JsonbValueToJsonb(&status);
	}
	check_sequences(header, rows);
}
