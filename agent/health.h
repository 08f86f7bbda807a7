/*
 * The board on which every service writes how it is doing, for status, heartbeat and the watchdog. One per process.
 *
 * All fields are behind one mutex in health.c; nothing here blocks on anything else.
 */
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

typedef enum HealthPart
{
	HEALTH_INTAKE,
	HEALTH_IMAGE_CENTER,
	HEALTH_PATH_CENTER,
	HEALTH_CACHE_SERVER,
	HEALTH_CLEANER,
	HEALTH_PART_COUNT
} HealthPart;

typedef struct HealthReport
{
	int64_t ok_count;
	int64_t error_count;
	int64_t last_ok; /* microseconds since 1970; 0: never */
	int64_t last_error;
	int64_t moves; /* signs that something is on its way, such as bytes of an upload */
	int64_t stalled; /* microseconds without progress for no known reason; 0: not so */
	bool failing; /* something failed since the last success: `error` is about that */
	char error[200]; /* of the last error since the last success, or that there is no progress; "" when all is well */
} HealthReport;

/* An error that is remembered beyond the next success; the same one again, but for numbers in it, only counts. */
typedef struct HealthError
{
	HealthPart part;
	int64_t count;
	int64_t first_at; /* microseconds since 1970 */
	int64_t last_at;
	char error[200];
} HealthError;

#define HEALTH_ERRORS 8 /* so many are remembered, since the start of the process */

/* Something worked: clears the current error. */
extern void health_ok(HealthPart part);

/*
 * Something failed; the text (no secret) is kept until the next success, as one line of valid UTF-8, whatever encoding or control
 * characters it comes with.
 */
extern void health_error(HealthPart part, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something is on its way, though not done. */
extern void health_moved(HealthPart part);

/* The watchdog's word: no progress for so long (microseconds), or 0: there is. */
extern void health_stalled(HealthPart part, int64_t micros);

/* A copy of one part's figures. */
extern HealthReport health_get(HealthPart part);

/* Copies the remembered errors, the one that came last first; returns how many. */
extern int health_errors(HealthError out[HEALTH_ERRORS]);

/* "intake", "image_center", "path_center", "cache_server", "cleaner". */
extern const char *health_part_name(HealthPart part);

#endif
