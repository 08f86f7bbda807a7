/*
 * When to try again after a failure: the wait doubles with every failure in a row up to a limit, and half of it is
 * random, so that a thousand agents do not come back in the same second. It never gives up.
 */
#ifndef AGENT_BACKOFF_H
#define AGENT_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

/* Microseconds. */
typedef struct BackoffSchedule
{
	int64_t first; /* wait after the first failure */
	int64_t most; /* longest wait */
} BackoffSchedule;

/* A peer that is away or busy: half a second to a minute. */
extern const BackoffSchedule backoff_away;

/* Something that is refused until somebody changes something: 5 seconds to 10 minutes. */
extern const BackoffSchedule backoff_refused;

/* One thing that may fail; all zero: no failure. */
typedef struct Backoff
{
	int failures; /* in a row */
	int64_t retry_at; /* by the steady clock; 0: at once */
} Backoff;

/* The wait after `failures` (at least 1) in a row; random picks within [d/2, d]. */
extern int64_t backoff_delay(const BackoffSchedule *schedule, int failures, uint32_t random);

/* Notes a failure at `now` (steady clock). */
extern void backoff_fail(Backoff *backoff, const BackoffSchedule *schedule, int64_t now);

/* The peer itself asked for a wait of so many microseconds: not sooner, and not all at the same time. */
extern void backoff_at_least(Backoff *backoff, int64_t wait, int64_t now);

/* Notes a success. */
extern void backoff_reset(Backoff *backoff);

#endif
