/*
 * Records from text and JSON, and back. What a field may hold is in common/capture_record.h; this file reads the forms it
 * comes in and says of every refusal which field it was.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

/* Longest name of an attribute; a longer one is a mistake, not a name. */
#define ATTRIBUTE_NAME_MAX 64
#define PLATE_BOX_MAX      65535 /* pixels; no JPEG has more on a side */

/* Longest text of an integer or a time that is looked at. */
#define NUMBER_TEXT_MAX 64

static TmsStatus refuse(char error[RECORD_ERROR_SIZE], const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static TmsStatus refuse(char error[RECORD_ERROR_SIZE], const char *name, const char *format, ...)
{
	va_list args;
	int len;

	len = snprintf(error, RECORD_ERROR_SIZE, "%.*s: ", ATTRIBUTE_NAME_MAX, name);
	va_start(args, format);
	vsnprintf(error + len, RECORD_ERROR_SIZE - (size_t) len, format, args);
	va_end(args);
	/* A name, or the part of a side file near a mistake, goes into answers and logs: only what is harmless there. */
	for (char *c = error; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return TMS_INVALID;
}

void record_init(Record *record)
{
	memset(record, 0, sizeof *record);
}

/* Buffer of a TEXT field; its size is that of the rule's most bytes and the NUL. */
static char *text_field(Record *record, TmsField field)
{
	switch (field)
	{
		case TMS_FIELD_PLATE:
			return record->plate;
		case TMS_FIELD_PLATE_CLASS:
			return record->plate_class;
		case TMS_FIELD_PLATE_COLOR:
			return record->plate_color;
		case TMS_FIELD_DIRECTION:
			return record->direction;
		case TMS_FIELD_VIOLATION_CODE:
			return record->violation_code;
		default:
			return NULL;
	}
}

/* Has the record a value for this field already? */
static bool has_field(const Record *record, TmsField field)
{
	switch (field)
	{
		case TMS_FIELD_CAPTURED_AT:
			return record->has_captured_at;
		case TMS_FIELD_LANE:
			return record->has_lane;
		case TMS_FIELD_SPEED_KMH:
			return record->has_speed_kmh;
		case TMS_FIELD_EVENT_ID:
			return record->has_event_id;
		case TMS_FIELD_ATTRIBUTES:
			return false; /* its members are looked at one by one */
		default:
			return text_field((Record *) record, field)[0] != '\0';
	}
}

/* Sets an INT field to a number that may not fit. */
static TmsStatus set_int(Record *record, TmsField field, int64_t value, char error[RECORD_ERROR_SIZE])
{
	const TmsFieldRule *rule = &tms_field_rules[field];

	if (!tms_field_int_valid(field, value))
		return refuse(error, rule->name, "not between %" PRId64 " and %" PRId64, rule->min, rule->max);
	if (field == TMS_FIELD_LANE)
	{
		record->lane = (int) value;
		record->has_lane = true;
	}
	else
	{
		record->speed_kmh = (int) value;
		record->has_speed_kmh = true;
	}
	return TMS_OK;
}

static TmsStatus set_int_text(Record *record, TmsField field, const char *value, size_t len,
							  char error[RECORD_ERROR_SIZE])
{
	char text[NUMBER_TEXT_MAX + 1];
	size_t digits = len;

	if (len > 0 && *value == '-')
		digits--;
	if (digits == 0 || len > NUMBER_TEXT_MAX || strspn(value + (len - digits), "0123456789") < digits)
		return refuse(error, tms_field_rules[field].name, "not a whole number");
	memcpy(text, value, len);
	text[len] = '\0';
	return set_int(record, field, strtoll(text, NULL, 10), error); /* one too long becomes the largest there is */
}

static TmsStatus set_time_text(Record *record, const char *value, size_t len, char error[RECORD_ERROR_SIZE])
{
	const TmsFieldRule *rule = &tms_field_rules[TMS_FIELD_CAPTURED_AT];
	char min[TMS_TIME_TEXT_SIZE], max[TMS_TIME_TEXT_SIZE];

	if (!tms_time_parse(value, len, &record->captured_at))
		return refuse(error, rule->name, "neither RFC 3339 with a zone nor seconds since 1970");
	if (!tms_field_int_valid(TMS_FIELD_CAPTURED_AT, record->captured_at))
	{
		tms_time_format(rule->min, min);
		tms_time_format(rule->max, max);
		return refuse(error, rule->name, "not between %.10s and %.10s", min, max);
	}
	record->has_captured_at = true;
	return TMS_OK;
}

/* Sets one field of the record's own, other than the attributes, from text. */
static TmsStatus set_field(Record *record, TmsField field, const char *value, size_t len, char error[RECORD_ERROR_SIZE])
{
	const TmsFieldRule *rule = &tms_field_rules[field];
	const char *why;

	if (has_field(record, field))
		return refuse(error, rule->name, "given twice");
	switch (rule->kind)
	{
		case TMS_KIND_TIME:
			return set_time_text(record, value, len, error);
		case TMS_KIND_INT:
			return set_int_text(record, field, value, len, error);
		case TMS_KIND_UUID:
			if (!tms_uuid_parse(value, len, &record->event_id))
				return refuse(error, rule->name, "not a UUID");
			record->has_event_id = true;
			return TMS_OK;
		default:
			if (!tms_field_text_valid(field, value, len, &why))
				return refuse(error, rule->name, "%s", why);
			memcpy(text_field(record, field), value, len);
			text_field(record, field)[len] = '\0';
			return TMS_OK;
	}
}

/* The record's attributes as an object of its own; an empty one when there are none. NULL: out of memory. */
static json_t *load_attributes(const Record *record)
{
	return record->attributes[0] == '\0' ? json_object() : json_loads(record->attributes, JSON_REJECT_DUPLICATES, NULL);
}

/* Writes the object back to the record; false when it is too large. */
static bool store_attributes(Record *record, json_t *object)
{
	char text[TMS_ATTRIBUTES_MAX + 1];
	size_t len = json_dumpb(object, text, TMS_ATTRIBUTES_MAX, JSON_COMPACT);

	if (len == 0 || len > TMS_ATTRIBUTES_MAX)
		return false;
	memcpy(record->attributes, text, len);
	record->attributes[json_object_size(object) > 0 ? len : 0] = '\0';
	return true;
}

/* The attribute that tells where the plate is: [x, y, w, h], whole numbers of pixels. */
static const char plate_box[] = "plate_box";

static bool is_plate_box(const json_t *value)
{
	if (json_array_size(value) != 4)
		return false;
	for (size_t i = 0; i < 4; i++)
	{
		const json_t *number = json_array_get(value, i);

		if (!json_is_integer(number) || json_integer_value(number) < (i < 2 ? 0 : 1) ||
			json_integer_value(number) > PLATE_BOX_MAX)
			return false;
	}
	return true;
}

/* Adds members to the attributes; takes over the reference to `members`. A name that is there already is refused. */
static TmsStatus add_attributes(Record *record, json_t *members, char error[RECORD_ERROR_SIZE])
{
	const char *attributes = tms_field_rules[TMS_FIELD_ATTRIBUTES].name;
	json_t *object = load_attributes(record), *value;
	TmsStatus status = TMS_OK;
	const char *name;

	if (!object || !members)
		status = refuse(error, attributes, "out of memory");
	else
		json_object_foreach (members, name, value)
		{
			if (name[0] == '\0' || strlen(name) > ATTRIBUTE_NAME_MAX)
				status = refuse(error, name, "not a name for an attribute");
			else if (json_object_get(object, name))
				status = refuse(error, name, "given twice");
			else if (strcmp(name, plate_box) == 0 && !is_plate_box(value))
				status = refuse(error, name, "not [x, y, w, h] in pixels");
			else if (json_object_set(object, name, value) != 0)
				status = refuse(error, name, "cannot be stored");
			if (status != TMS_OK)
				break;
		}
	if (status == TMS_OK && !store_attributes(record, object))
		status = refuse(error, attributes, "%s", tms_field_rules[TMS_FIELD_ATTRIBUTES].too_long);
	json_decref(object);
	json_decref(members);
	return status;
}

/* The attributes as the text of a whole object. */
static TmsStatus add_attributes_text(Record *record, const char *value, size_t len, char error[RECORD_ERROR_SIZE])
{
	const TmsFieldRule *rule = &tms_field_rules[TMS_FIELD_ATTRIBUTES];
	json_t *members;
	const char *why;

	if (!tms_field_text_valid(TMS_FIELD_ATTRIBUTES, value, len, &why))
		return refuse(error, rule->name, "%s", why);
	members = json_loadb(value, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(members))
	{
		json_decref(members);
		return refuse(error, rule->name, "not a JSON object");
	}
	return add_attributes(record, members, error);
}

/* One attribute with a text, which for plate_box is that of an array. */
static TmsStatus add_attribute_text(Record *record, const char *name, const char *value, size_t len,
									char error[RECORD_ERROR_SIZE])
{
	json_t *members;
	const char *why;

	if (!tms_utf8_valid(name, strlen(name)))
		return refuse(error, name, "the name is not valid UTF-8");
	if (!tms_field_text_valid(TMS_FIELD_ATTRIBUTES, value, len, &why))
		return refuse(error, name, "%s", why);
	if (memchr(value, '\0', len))
		return refuse(error, name, "has a control character");
	members = json_object();
	if (json_object_set_new(members, name,
							strcmp(name, plate_box) == 0 ? json_loadb(value, len, 0, NULL)
														 : json_stringn(value, len)) != 0)
	{
		json_decref(members);
		return refuse(error, name, strcmp(name, plate_box) == 0 ? "not [x, y, w, h] in pixels" : "cannot be stored");
	}
	return add_attributes(record, members, error);
}

TmsStatus record_set(Record *record, const char *name, const char *value, size_t len, char error[RECORD_ERROR_SIZE])
{
	TmsField field = tms_field_by_name(name);

	if (field != TMS_FIELD_COUNT && len == 0)
		return TMS_OK; /* given, but empty: as if absent */
	if (field == TMS_FIELD_ATTRIBUTES)
		return add_attributes_text(record, value, len, error);
	if (field != TMS_FIELD_COUNT)
		return set_field(record, field, value, len, error);
	return add_attribute_text(record, name, value, len, error);
}

/* Sets a field of the record's own from a JSON value. */
static TmsStatus set_json_field(Record *record, TmsField field, json_t *value, char error[RECORD_ERROR_SIZE])
{
	const TmsFieldRule *rule = &tms_field_rules[field];
	char text[NUMBER_TEXT_MAX + 1];

	if (json_is_null(value))
		return TMS_OK;
	if (json_is_string(value))
		return json_string_length(value) == 0
				   ? TMS_OK
				   : set_field(record, field, json_string_value(value), json_string_length(value), error);
	if (json_is_integer(value) && rule->kind == TMS_KIND_INT)
		return set_int(record, field, json_integer_value(value), error);
	if (json_is_number(value) && rule->kind == TMS_KIND_TIME)
	{
		/* Microseconds fit into a double until the year 2255. */
		int len = snprintf(text, sizeof text, "%.6f", json_number_value(value));

		return set_time_text(record, text, len < (int) sizeof text ? (size_t) len : 0, error);
	}
	return refuse(error, rule->name, "not a %s",
				  rule->kind == TMS_KIND_INT    ? "whole number"
				  : rule->kind == TMS_KIND_TIME ? "time"
												: "text");
}

/* Takes the members of a side file: fields of the record's own are set, the other ones gathered in `others`. */
static TmsStatus take_members(Record *record, json_t *object, json_t *others, char error[RECORD_ERROR_SIZE])
{
	const char *name;
	json_t *value;

	json_object_foreach (object, name, value)
	{
		TmsField field = tms_field_by_name(name);
		TmsStatus status = TMS_OK;

		if (field == TMS_FIELD_COUNT)
			status = json_object_set(others, name, value) == 0 ? TMS_OK : refuse(error, name, "cannot be stored");
		else if (field != TMS_FIELD_ATTRIBUTES)
			status = set_json_field(record, field, value, error);
		else if (json_is_object(value))
			status = add_attributes(record, json_incref(value), error);
		else if (!json_is_null(value))
			status = refuse(error, name, "not a JSON object");
		if (status != TMS_OK)
			return status;
	}
	return TMS_OK;
}

TmsStatus record_from_json(Record *record, const char *json, size_t len, char error[RECORD_ERROR_SIZE])
{
	json_error_t where;
	json_t *object = json_loadb(json, len, JSON_REJECT_DUPLICATES, &where), *others = json_object();
	TmsStatus status;

	record_init(record);
	if (!json_is_object(object))
		status = refuse(error, "record", "not a JSON object%s%.90s", object ? "" : ": ", object ? "" : where.text);
	else
		status = take_members(record, object, others, error);
	if (status == TMS_OK && json_object_size(others) > 0)
		status = add_attributes(record, json_incref(others), error);
	json_decref(others);
	json_decref(object);
	return status;
}

/* Takes one member of a stored record: a field of the record's own is set, what else there is goes into `attributes`. */
static TmsStatus restore_member(Record *record, json_t *attributes, const char *name, json_t *value,
								char error[RECORD_ERROR_SIZE])
{
	TmsField field = tms_field_by_name(name);

	if (field == TMS_FIELD_COUNT)
		return json_object_set(attributes, name, value) == 0 ? TMS_OK : refuse(error, name, "cannot be stored");
	if (field != TMS_FIELD_ATTRIBUTES)
		return set_json_field(record, field, value, error);
	return json_object_update(attributes, value) == 0 ? TMS_OK : refuse(error, name, "not a JSON object");
}

TmsStatus record_from_stored(Record *record, const char *json, size_t len, char error[RECORD_ERROR_SIZE])
{
	json_t *object = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL), *attributes = json_object(), *value;
	TmsStatus status = TMS_OK;
	const char *name;

	record_init(record);
	if (!json_is_object(object))
		status = refuse(error, "record", "not a JSON object");
	json_object_foreach (object, name, value)
		if (restore_member(record, attributes, name, value, error) != TMS_OK)
			status = TMS_INVALID;
	if (!store_attributes(record, attributes))
		status = refuse(error, tms_field_rules[TMS_FIELD_ATTRIBUTES].name, "%s",
						tms_field_rules[TMS_FIELD_ATTRIBUTES].too_long);
	json_decref(attributes);
	json_decref(object);
	return status;
}

TmsStatus record_set_attribute(Record *record, const char *name, const char *value)
{
	json_t *object = load_attributes(record);
	TmsStatus status = TMS_MEMORY;

	if (object && json_object_set_new(object, name, json_string(value)) == 0)
		status = store_attributes(record, object) ? TMS_OK : TMS_TOO_LARGE;
	json_decref(object);
	return status;
}

TmsStatus record_to_json(const Record *record, char *out, size_t size)
{
	char text[TMS_TIME_TEXT_SIZE], uuid[TMS_UUID_TEXT_SIZE];
	json_t *object = json_object();
	TmsStatus status = TMS_MEMORY;
	size_t len;
	int failed = object == NULL;

	if (record->has_captured_at && tms_time_format(record->captured_at, text))
		failed |= json_object_set_new(object, tms_field_rules[TMS_FIELD_CAPTURED_AT].name, json_string(text));
	for (int field = 0; field < TMS_FIELD_COUNT; field++)
	{
		const char *value = text_field((Record *) record, (TmsField) field);

		if (value && *value)
			failed |= json_object_set_new(object, tms_field_rules[field].name, json_string(value));
	}
	if (record->has_lane)
		failed |= json_object_set_new(object, tms_field_rules[TMS_FIELD_LANE].name, json_integer(record->lane));
	if (record->has_speed_kmh)
		failed |=
			json_object_set_new(object, tms_field_rules[TMS_FIELD_SPEED_KMH].name, json_integer(record->speed_kmh));
	if (record->has_event_id)
	{
		tms_uuid_format(&record->event_id, uuid);
		failed |= json_object_set_new(object, tms_field_rules[TMS_FIELD_EVENT_ID].name, json_string(uuid));
	}
	if (record->attributes[0])
		failed |= json_object_set_new(object, tms_field_rules[TMS_FIELD_ATTRIBUTES].name, load_attributes(record));
	if (!failed)
	{
		len = json_dumpb(object, out, size - 1, JSON_COMPACT);
		status = len > 0 && len < size ? TMS_OK : TMS_TOO_LARGE;
		out[status == TMS_OK ? len : 0] = '\0';
	}
	json_decref(object);
	return status;
}
