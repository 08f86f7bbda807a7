/*
 * The rules of a capture's record, and the forms of text and time that they speak of.
 */
#include "capture_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MICROS_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY   INT64_C(86400)

#define TIME_2000 (INT64_C(946684800) * MICROS_PER_SECOND)
#define TIME_2100 (INT64_C(4102444800) * MICROS_PER_SECOND)

/* Times are written with four digits of year: from 0001-01-01 to before 10000-01-01, in seconds since 1970. */
#define SECONDS_FIRST INT64_C(-62135596800)
#define SECONDS_END   INT64_C(253402300800)

#define LONGER_THAN_(bytes) "longer than " #bytes " bytes"
#define LONGER_THAN(bytes)  LONGER_THAN_(bytes)
#define BYTES_RULE(name, kind, most)           \
	{                                          \
		name, kind, 0, most, LONGER_THAN(most) \
	}
#define VALUE_RULE(name, kind, min, max) \
	{                                    \
		name, kind, min, max, NULL       \
	}

const TmsFieldRule tms_field_rules[TMS_FIELD_COUNT] = {
	[TMS_FIELD_CAPTURED_AT] = VALUE_RULE("captured_at", TMS_KIND_TIME, TIME_2000, TIME_2100),
	[TMS_FIELD_PLATE] = BYTES_RULE("plate", TMS_KIND_TEXT, TMS_PLATE_MAX),
	[TMS_FIELD_PLATE_CLASS] = BYTES_RULE("plate_class", TMS_KIND_TEXT, TMS_PLATE_CLASS_MAX),
	[TMS_FIELD_PLATE_COLOR] = BYTES_RULE("plate_color", TMS_KIND_TEXT, TMS_PLATE_COLOR_MAX),
	[TMS_FIELD_DIRECTION] = BYTES_RULE("direction", TMS_KIND_TEXT, TMS_DIRECTION_MAX),
	[TMS_FIELD_LANE] = VALUE_RULE("lane", TMS_KIND_INT, 0, 999),
	[TMS_FIELD_SPEED_KMH] = VALUE_RULE("speed_kmh", TMS_KIND_INT, 0, 999),
	[TMS_FIELD_VIOLATION_CODE] = BYTES_RULE("violation_code", TMS_KIND_TEXT, TMS_VIOLATION_CODE_MAX),
	[TMS_FIELD_EVENT_ID] = VALUE_RULE("event_id", TMS_KIND_UUID, 0, 0),
	[TMS_FIELD_ATTRIBUTES] = BYTES_RULE("attributes", TMS_KIND_OBJECT, TMS_ATTRIBUTES_MAX),
};

TmsField tms_field_by_name(const char *name)
{
	int field;

	for (field = 0; field < TMS_FIELD_COUNT; field++)
		if (strcmp(tms_field_rules[field].name, name) == 0)
			break;
	return (TmsField) field;
}

/* The shapes of UTF-8 sequences (RFC 3629), by lead byte; the second byte's range excludes overlong forms and surrogates. */
static const struct Utf8Form
{
	uint8_t lead_min;
	uint8_t lead_max;
	uint8_t second_min;
	uint8_t second_max;
	size_t len;
} utf8_forms[] = {
	{0x00, 0x7F, 0x00, 0x00, 1}, {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
	{0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
	{0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
};

/* Length of the character at the start of text; 0 when there is no valid one. */
static size_t utf8_length(const uint8_t *text, size_t left)
{
	const struct Utf8Form *form = utf8_forms;
	const struct Utf8Form *end = form + sizeof(utf8_forms) / sizeof(utf8_forms[0]);
	size_t i;

	while (form < end && (text[0] < form->lead_min || text[0] > form->lead_max))
		form++;
	if (form == end || form->len > left)
		return 0;
	if (form->len > 1 && (text[1] < form->second_min || text[1] > form->second_max))
		return 0;
	for (i = 2; i < form->len; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	return form->len;
}

bool tms_utf8_valid(const char *text, size_t len)
{
	const uint8_t *at = (const uint8_t *) text;
	const uint8_t *end = at + len;

	while (at < end)
	{
		size_t taken = utf8_length(at, (size_t) (end - at));

		if (taken == 0)
			return false;
		at += taken;
	}
	return true;
}

/* Has this valid UTF-8 a character below U+0020 or of U+007F to U+009F? */
static bool has_control_character(const char *text, size_t len)
{
	const uint8_t *at = (const uint8_t *) text;
	size_t i;

	for (i = 0; i < len; i++)
		if (at[i] < 0x20 || at[i] == 0x7F || (at[i] == 0xC2 && at[i + 1] < 0xA0))
			return true;
	return false;
}

bool tms_field_text_valid(TmsField field, const char *text, size_t len, const char **why)
{
	const TmsFieldRule *rule = &tms_field_rules[field];
	const char *broken = NULL;

	if ((int64_t) len > rule->max)
		broken = rule->too_long;
	else if (!tms_utf8_valid(text, len))
		broken = "not valid UTF-8";
	else if (rule->kind == TMS_KIND_TEXT && has_control_character(text, len))
		broken = "has a control character";
	if (broken != NULL && why != NULL)
		*why = broken;
	return broken == NULL;
}

bool tms_field_int_valid(TmsField field, int64_t value)
{
	const TmsFieldRule *rule = &tms_field_rules[field];

	return value >= rule->min && (rule->kind == TMS_KIND_TIME ? value < rule->max : value <= rule->max);
}

/* A text that is read from left to right. */
typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

/* Takes one character if it is one of these. */
static bool take_char(Reader *reader, const char *wanted)
{
	if (reader->at == reader->end || *reader->at == '\0' || strchr(wanted, *reader->at) == NULL)
		return false;
	reader->at++;
	return true;
}

/* Takes a number of exactly `digits` digits between min and max. */
static bool take_number(Reader *reader, int digits, int min, int max, int *value)
{
	*value = 0;
	for (; digits > 0; digits--)
	{
		if (reader->at == reader->end || *reader->at < '0' || *reader->at > '9')
			return false;
		*value = *value * 10 + (*reader->at++ - '0');
	}
	return *value >= min && *value <= max;
}

/* Takes an optional fraction of a second; digits after the sixth are dropped. */
static bool take_fraction(Reader *reader, int64_t *micros)
{
	int64_t unit = MICROS_PER_SECOND;
	int digit;

	*micros = 0;
	if (!take_char(reader, "."))
		return true;
	if (!take_number(reader, 1, 0, 9, &digit))
		return false;
	do
	{
		unit /= 10;
		*micros += digit * unit;
	} while (take_number(reader, 1, 0, 9, &digit));
	return true;
}

static bool is_leap_year(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Takes YYYY-MM-DD; *days since 1970. */
static bool take_date(Reader *reader, int64_t *days)
{
	static const int days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
	int year;
	int month;
	int day;
	int leap;
	int past;

	if (!take_number(reader, 4, 1, 9999, &year) || !take_char(reader, "-") || !take_number(reader, 2, 1, 12, &month) ||
		!take_char(reader, "-") || !take_number(reader, 2, 1, 31, &day))
		return false;
	leap = is_leap_year(year);
	if (day > days_before[month] - days_before[month - 1] + (month == 2 ? leap : 0))
		return false;
	past = year - 1;
	*days = past * INT64_C(365) + past / 4 - past / 100 + past / 400 + days_before[month - 1] + (month > 2 ? leap : 0) +
			day - 1 + SECONDS_FIRST / SECONDS_PER_DAY;
	return true;
}

/* Takes Z or an offset; *offset in seconds east of UTC. */
static bool take_zone(Reader *reader, int64_t *offset)
{
	bool west;
	int hours;
	int minutes;

	*offset = 0;
	if (take_char(reader, "Zz"))
		return true;
	west = reader->at < reader->end && *reader->at == '-';
	if (!take_char(reader, "+-") || !take_number(reader, 2, 0, 23, &hours) || !take_char(reader, ":") ||
		!take_number(reader, 2, 0, 59, &minutes))
		return false;
	*offset = (hours * 60 + minutes) * (west ? -60 : 60);
	return true;
}

/* A leap second, :60, counts as the first second of the next minute. */
static bool take_rfc3339(Reader *reader, int64_t *seconds, int64_t *micros)
{
	int64_t days;
	int64_t offset;
	int hour;
	int minute;
	int second;

	if (!take_date(reader, &days) || !take_char(reader, "Tt ") || !take_number(reader, 2, 0, 23, &hour) ||
		!take_char(reader, ":") || !take_number(reader, 2, 0, 59, &minute) || !take_char(reader, ":") ||
		!take_number(reader, 2, 0, 60, &second) || !take_fraction(reader, micros) || !take_zone(reader, &offset))
		return false;
	*seconds = days * SECONDS_PER_DAY + (hour * 60 + minute) * 60 + second - offset;
	return true;
}

static bool take_seconds(Reader *reader, int64_t *seconds, int64_t *micros)
{
	int digit;

	if (!take_number(reader, 1, 0, 9, &digit))
		return false;
	*seconds = 0;
	do
	{
		*seconds = *seconds * 10 + digit;
		if (*seconds >= SECONDS_END)
			return false;
	} while (take_number(reader, 1, 0, 9, &digit));
	return take_fraction(reader, micros);
}

bool tms_time_parse(const char *text, size_t len, int64_t *out)
{
	Reader reader = {text, text + len};
	int64_t seconds;
	int64_t micros;
	bool taken =
		len > 4 && text[4] == '-' ? take_rfc3339(&reader, &seconds, &micros) : take_seconds(&reader, &seconds, &micros);

	if (!taken || reader.at != reader.end)
		return false;
	*out = seconds * MICROS_PER_SECOND + micros;
	return true;
}

bool tms_time_format(int64_t micros, char out[TMS_TIME_TEXT_SIZE])
{
	int64_t fraction = micros % MICROS_PER_SECOND;
	time_t seconds = (time_t) (micros / MICROS_PER_SECOND);
	struct tm tm;
	char text[80]; /* as much as the compiler thinks the fields may take */

	if (fraction < 0)
	{
		fraction += MICROS_PER_SECOND;
		seconds--;
	}
	if (seconds < SECONDS_FIRST || seconds >= SECONDS_END || gmtime_r(&seconds, &tm) == NULL)
		return false;
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06" PRId64 "Z", tm.tm_year + 1900, tm.tm_mon + 1,
			 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fraction);
	memcpy(out, text, TMS_TIME_TEXT_SIZE);
	return true;
}
