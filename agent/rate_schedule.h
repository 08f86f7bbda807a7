/*
 * How fast something may go at which time of day: "2MB/s", or with a timetable "2MB/s; 22:00-06:00 0".
 *
 * The first rate holds except in the spans, each HH:MM-HH:MM and its rate, by local time, end excluded. A span may go over
 * midnight; spans do not overlap. 0 is no limit.
 */
#ifndef AGENT_RATE_SCHEDULE_H
#define AGENT_RATE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config_units.h"

#define RATE_SPANS_MAX 16

/* The least limit, bytes per second: slower than this no photograph arrives before its connection is given up. */
#define RATE_LEAST 1024

typedef struct RateSpan
{
	int begin; /* minute of the day, 0 to 1439 */
	int end; /* 1 to 1440; less than begin: of the next day */
	int64_t rate;
} RateSpan;

/* Bytes per second; 0: no limit. All zero: never a limit. */
typedef struct RateSchedule
{
	int64_t rate;
	int span_count;
	RateSpan spans[RATE_SPANS_MAX];
} RateSchedule;

/* Reads the text of a configuration; false with a phrase in `why`, and *out as it was. */
extern bool rate_schedule_parse(const char *text, RateSchedule *out, char why[CONFIG_WHY_SIZE]);

/* Writes what rate_schedule_parse reads. */
extern void rate_schedule_show(const RateSchedule *schedule, char *out, size_t size);

/* The rate at a minute of the day (0 to 1439). */
extern int64_t rate_schedule_at(const RateSchedule *schedule, int minute);

/* The rate at a time, microseconds since 1970, in the zone of this process. */
extern int64_t rate_schedule_now(const RateSchedule *schedule, int64_t clock);

/* Does a text look like the beginning of a span? Such a text behind a comment's sign is a mistake. */
extern bool rate_schedule_is_span(const char *text);

#endif
