/*
 * A day of samples: how much came in, what waited, what room there was. For the rate of intake and the status page's curves.
 *
 * Kept in memory and carried over a restart by data_dir/status.json (status_file): a restart loses the last ten seconds, a lost
 * or unreadable status.json the day. Nothing but people's eyes and `safe_until` depends on it.
 */
#ifndef AGENT_STATUS_HISTORY_H
#define AGENT_STATUS_HISTORY_H

#include <jansson.h>
#include <stdint.h>

#define STATUS_HISTORY_STEP  INT64_C(600000000) /* between samples, microseconds */
#define STATUS_HISTORY_COUNT 145 /* a day, both ends included */

typedef struct StatusSample
{
	int64_t at; /* by the steady clock, so that a clock that jumps bends nothing; microseconds */
	int64_t taken; /* captures taken in since the first sample ever */
	int64_t upload_backlog;
	int64_t register_backlog;
	int64_t free_bytes; /* -1: not known */
} StatusSample;

/* Captures taken in since the first sample ever: what was carried over, and what this process took. */
extern int64_t status_history_taken(void);

/* Keeps a sample when it is time for one; more calls than that do no harm. */
extern void status_history_add(const StatusSample *sample);

/*
 * Captures an hour from the sample of `micros` ago (or the oldest one) to `taken` now; -1 when that is less than a minute, which
 * says nothing.
 */
extern double status_history_rate(int64_t taken, int64_t micros);

/* Copies the samples, oldest first; returns how many. */
extern int status_history_read(StatusSample out[STATUS_HISTORY_COUNT]);

/*
 * As JSON, {"names": [...], "samples": [[...], ...]} with the time in Unix seconds and `last` as the newest sample; and back, at
 * start: what makes no sense, lies in the future or is older than a day is left out.
 */
extern json_t *status_history_json(const StatusSample *last);
extern void status_history_restore(const json_t *history);

#endif
