/*
 * Single values of the JSON that the agent writes and its commands read.
 */
#ifndef AGENT_JSON_FIELD_H
#define AGENT_JSON_FIELD_H

#include <jansson.h>
#include <stdint.h>

/* A time (microseconds since 1970) as RFC 3339 text, null for 0. */
extern json_t *json_time(int64_t at);

/* A member of an object as text, "" when it is none, and as whole number, 0 when it is none. The object may be NULL. */
extern const char *json_field_text(const json_t *object, const char *name);
extern int64_t json_field_number(const json_t *object, const char *name);

#endif
