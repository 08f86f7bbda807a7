/*
 * Single values of JSON; see json_field.h.
 */
#include "../common/capture_record.h"
#include "json_field.h"

json_t *json_time(int64_t at)
{
	char text[TMS_TIME_TEXT_SIZE];

	return at && tms_time_format(at, text) ? json_string(text) : json_null();
}

const char *json_field_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

int64_t json_field_number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}
