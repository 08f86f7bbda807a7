/*
 * The record of a capture as the agent holds it: fixed buffers, nothing to free.
 */
#ifndef AGENT_RECORD_H
#define AGENT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/capture_id.h"
#include "../common/capture_record.h"
#include "../common/status.h"

typedef struct Record
{
	int64_t captured_at; /* microseconds since 1970 UTC */
	bool has_captured_at;
	bool has_lane;
	bool has_speed_kmh;
	bool has_event_id;
	int lane;
	int speed_kmh;
	TmsUuid event_id;
	char plate[TMS_PLATE_MAX + 1]; /* texts: empty means absent */
	char plate_class[TMS_PLATE_CLASS_MAX + 1];
	char plate_color[TMS_PLATE_COLOR_MAX + 1];
	char direction[TMS_DIRECTION_MAX + 1];
	char violation_code[TMS_VIOLATION_CODE_MAX + 1];
	char attributes[TMS_ATTRIBUTES_MAX + 1]; /* a JSON object as compact text, or empty */
} Record;

#define RECORD_ERROR_SIZE 160
#define RECORD_JSON_SIZE  (TMS_ATTRIBUTES_MAX + 2048)

/* An empty record. */
extern void record_init(Record *record);

/*
 * Sets one field from text as it comes in a query string or a multipart part. A name that is no field of the record becomes
 * a text attribute of that name. TMS_INVALID writes one line that names the field to error.
 */
extern TMS_CHECKED TmsStatus record_set(Record *record, const char *name, const char *value, size_t len,
										char error[RECORD_ERROR_SIZE]);

/* Reads a whole record from the text of a sender's JSON object (side file); numbers and strings both do for numeric fields. */
extern TMS_CHECKED TmsStatus record_from_json(Record *record, const char *json, size_t len,
											  char error[RECORD_ERROR_SIZE]);

/*
 * Reads back what record_to_json wrote and the agent stored. What was acknowledged is not judged by the rules that intake has by
 * now: attributes are taken as they are. TMS_INVALID: error names a field that cannot be read; all others are in the record.
 */
extern TMS_CHECKED TmsStatus record_from_stored(Record *record, const char *json, size_t len,
												char error[RECORD_ERROR_SIZE]);

/* Adds one attribute made by the agent itself, such as "jpeg": "truncated". TMS_TOO_LARGE when there is no room. */
extern TMS_CHECKED TmsStatus record_set_attribute(Record *record, const char *name, const char *value);

/* Writes the record as one compact JSON object; record_from_stored gives the same record. */
extern TMS_CHECKED TmsStatus record_to_json(const Record *record, char *out, size_t size);

#endif
