/*
 * A token bucket; see rate_bucket.h.
 */
#include "clock.h"
#include "rate_bucket.h"

/* The most that passes at once, and the least that is worth a packet. */
static double capacity(const RateBucket *bucket)
{
	return (double) bucket->rate / 4;
}

static double least(const RateBucket *bucket)
{
	return (double) bucket->rate / 32;
}

void rate_bucket_fill(RateBucket *bucket, int64_t rate, int64_t now)
{
	/* What was saved or owed at another rate is worth nothing at this one. */
	if (rate != bucket->rate)
	{
		bucket->rate = rate;
		bucket->level = capacity(bucket);
	}
	else if (now > bucket->filled_at)
	{
		bucket->level += (double) (now - bucket->filled_at) * (double) rate / CLOCK_SECOND;
		if (bucket->level > capacity(bucket))
			bucket->level = capacity(bucket);
	}
	bucket->filled_at = now;
}

int64_t rate_bucket_take(RateBucket *bucket, int64_t want)
{
	if (bucket->rate == 0)
		return want;
	if (bucket->level < least(bucket) && bucket->level < (double) want)
		return 0;
	if ((double) want > bucket->level)
		want = (int64_t) bucket->level;
	bucket->level -= (double) want;
	return want;
}

void rate_bucket_owe(RateBucket *bucket, int64_t bytes)
{
	if (bucket->rate > 0)
		bucket->level -= (double) bytes;
}

int64_t rate_bucket_wait(const RateBucket *bucket)
{
	double missing = least(bucket) - bucket->level;

	if (bucket->rate == 0 || missing <= 0)
		return 0;
	return (int64_t) (missing * CLOCK_SECOND / (double) bucket->rate) + 1;
}
