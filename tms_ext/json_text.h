/*
 * JSON that comes from outside, where anything but JSON must not end the statement.
 */
#ifndef TMS_JSON_TEXT_H
#define TMS_JSON_TEXT_H

#include "postgres.h"

#include "utils/jsonb.h"

/*
 * Reads a JSON text of len bytes in UTF-8, which may hold anything; palloc'd. NULL when it is not valid, cannot be held in the
 * database's encoding, or is nested too deeply. Cancels and a lack of memory are errors as ever.
 */
extern Jsonb *tms_json_text_read(const char *text, size_t len);

/* The member of that name of an object, of this type and no other; false when it is absent, null or of another type. */
extern bool tms_json_member(Jsonb *object, const char *name, enum jbvType type, JsonbValue *value);

/* A JSON number as a whole number from min to max; false when it is another. */
extern bool tms_json_whole_number(const JsonbValue *value, int64 min, int64 max, int64 *out);

#endif
