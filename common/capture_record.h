/*
 * The rules of a capture's record, one table for both programs: the agent refuses at intake what breaks them (400 naming
 * the field), tms.ingest stores such a row with the offending value under attributes.rejected.
 */
#ifndef TMS_CAPTURE_RECORD_H
#define TMS_CAPTURE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum TmsField
{
	TMS_FIELD_CAPTURED_AT,
	TMS_FIELD_PLATE,
	TMS_FIELD_PLATE_CLASS,
	TMS_FIELD_PLATE_COLOR,
	TMS_FIELD_DIRECTION,
	TMS_FIELD_LANE,
	TMS_FIELD_SPEED_KMH,
	TMS_FIELD_VIOLATION_CODE,
	TMS_FIELD_EVENT_ID,
	TMS_FIELD_ATTRIBUTES,
	TMS_FIELD_COUNT
} TmsField;

typedef enum TmsFieldKind
{
	TMS_KIND_TIME, /* RFC 3339 with zone, or seconds since 1970 */
	TMS_KIND_TEXT, /* UTF-8 without control characters */
	TMS_KIND_INT,
	TMS_KIND_UUID,
	TMS_KIND_OBJECT, /* a JSON object */
} TmsFieldKind;

typedef struct TmsFieldRule
{
	const char *name;
	TmsFieldKind kind;
	int64_t min; /* TEXT and OBJECT: unused; INT: least value; TIME: microseconds since 1970 */
	int64_t max; /* TEXT and OBJECT: most bytes; INT: greatest value; TIME: first one not allowed */
	const char *too_long; /* TEXT and OBJECT: what to say of more bytes */
} TmsFieldRule;

#define TMS_PLATE_MAX          32
#define TMS_PLATE_CLASS_MAX    16
#define TMS_PLATE_COLOR_MAX    16
#define TMS_DIRECTION_MAX      32
#define TMS_VIOLATION_CODE_MAX 32
#define TMS_ATTRIBUTES_MAX     4096
#define TMS_IMAGE_BYTES_MAX    (32 * 1024 * 1024)

/* One rule a field, indexed by TmsField. */
extern const TmsFieldRule tms_field_rules[TMS_FIELD_COUNT];

/* The field of that name, or TMS_FIELD_COUNT. */
extern TmsField tms_field_by_name(const char *name);

/*
 * Does this text (valid UTF-8 or not, len bytes, NULs count) satisfy a TEXT rule? On false *why, when given, is a static
 * phrase such as "longer than 32 bytes", "not valid UTF-8", "has a control character".
 */
extern bool tms_field_text_valid(TmsField field, const char *text, size_t len, const char **why);

/* Does this number satisfy an INT or TIME rule? */
extern bool tms_field_int_valid(TmsField field, int64_t value);

/* Is this valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF)? */
extern bool tms_utf8_valid(const char *text, size_t len);

/*
 * Reads RFC 3339 ("2026-11-22T14:03:05.25+08:00", also with a space instead of T; the zone is required) or decimal seconds
 * since 1970 with an optional fraction. Microseconds since 1970 in *out; false for anything else, also 30 February.
 */
extern bool tms_time_parse(const char *text, size_t len, int64_t *out);

/* Writes "2026-11-22T06:03:05.250000Z" and a NUL; false outside the years 0001 to 9999. */
#define TMS_TIME_TEXT_SIZE 28
extern bool tms_time_format(int64_t micros, char out[TMS_TIME_TEXT_SIZE]);

#endif
