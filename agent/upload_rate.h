/*
 * The rate limit of the link to the image center: one bucket for the whole process, whoever sends and however many
 * connections there are. Safe to use from any thread.
 */
#ifndef AGENT_UPLOAD_RATE_H
#define AGENT_UPLOAD_RATE_H

#include <stdint.h>

#include "rate_schedule.h"

/* How many of `want` bytes may be sent now; 0: none before upload_rate_wait is over. */
extern int64_t upload_rate_take(const RateSchedule *schedule, int64_t want);

/* Counts bytes that came the other way: they take the link as well, but cannot be held back. */
extern void upload_rate_owe(const RateSchedule *schedule, int64_t bytes);

/* Microseconds until bytes may be sent again; 0: at once. */
extern int64_t upload_rate_wait(const RateSchedule *schedule);

#endif
