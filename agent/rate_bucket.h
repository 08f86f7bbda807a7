/*
 * A token bucket: lets bytes pass at a rate that may change at any time, evenly, with at most a quarter of a second's worth
 * at once. Knows no clock and no lock: the caller gives the time and guards it.
 */
#ifndef AGENT_RATE_BUCKET_H
#define AGENT_RATE_BUCKET_H

#include <stdint.h>

/* All zero: full at its first use. */
typedef struct RateBucket
{
	int64_t rate; /* bytes per second; 0: no limit */
	double level; /* bytes that may pass now; below zero: bytes that passed unasked and are owed */
	int64_t filled_at; /* steady clock, microseconds */
} RateBucket;

/* Sets the rate from now on; calling it again with the same rate fills the bucket up to now. */
extern void rate_bucket_fill(RateBucket *bucket, int64_t rate, int64_t now);

/*
 * Takes up to `want` bytes from the filled bucket and returns how many may pass. 0: none yet; ask again after
 * rate_bucket_wait, so that many small pieces do not become many small packets.
 */
extern int64_t rate_bucket_take(RateBucket *bucket, int64_t want);

/* Counts bytes that could not be held back; later ones wait for them. */
extern void rate_bucket_owe(RateBucket *bucket, int64_t bytes);

/* Microseconds until rate_bucket_take gives some; 0: at once. */
extern int64_t rate_bucket_wait(const RateBucket *bucket);

#endif
